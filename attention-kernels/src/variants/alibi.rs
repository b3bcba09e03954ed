//! Attention with linear biases (Press et al. 2021, <https://arxiv.org/abs/2108.12409>).

use cubecl::prelude::*;

use super::distance;
use crate::modification::{Captured, Lanes, Place, ScoreMod};

/// `score - slope * |i + offset - j|`, with a slope for each query head, which receives a gradient.
pub fn alibi<F, I>(slopes: F, offset: u32) -> ScoreMod<F, I> {
    ScoreMod::scaled_lookup(slopes, 1, only_slot::expand, penalty::expand).with_count(offset)
}

#[cube]
fn only_slot(_at: &Place, _captured: &Captured) -> Vector<u32, Lanes> {
    Vector::new(0u32)
}

#[cube]
fn penalty(at: &Place, captured: &Captured) -> Vector<f32, Lanes> {
    let position = at.query + Vector::new(captured.count(0usize));
    Vector::new(0.0f32) - Vector::cast_from(distance(position, at.key))
}

/// The paper's slopes: `2^(-8 (h + 1) / heads)` where `heads` is a power of two; else those of the
/// next lower power of two, and then every second one of twice that.
///
/// ```
/// use attention_kernels::variants::alibi_slopes;
///
/// assert_eq!(alibi_slopes(2), [1.0 / 16.0, 1.0 / 256.0]);
/// assert_eq!(alibi_slopes(3), [1.0 / 16.0, 1.0 / 256.0, 0.25]);
/// ```
pub fn alibi_slopes(heads: usize) -> Vec<f32> {
    let geometric =
        |count: usize| (1..=count).map(move |n| (-8.0 * n as f64 / count as f64).exp2() as f32);
    let lower = if heads.is_power_of_two() {
        heads
    } else {
        heads.next_power_of_two() / 2
    };
    geometric(lower)
        .chain(geometric(2 * lower).step_by(2))
        .take(heads)
        .collect()
}
