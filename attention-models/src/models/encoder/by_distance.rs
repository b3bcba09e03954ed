//! DeBERTa's terms of positions, as code.

use cubecl::prelude::*;

use crate::ops::{Captured, Lanes, Place};

/// `by_query[i, slot] + by_key[j, slot]`, where `slot` is that of the distance `i - j`.
///
/// Captured are both terms, `[batch, heads, seq, slots]`, the slot of each distance from `1 - seq` on, and the numbers
/// of heads, of tokens and of slots.
#[cube]
pub(super) fn by_distance(at: &Place, captured: &Captured) -> Vector<f32, Lanes> {
    let heads = captured.count(0usize);
    let seq = captured.count(1usize);
    let slots = Vector::<u32, Lanes>::new(captured.count(2usize));
    let first = Vector::<u32, Lanes>::new((at.batch * heads + at.head) * seq);
    let slot = captured.integers(0usize, at.query + Vector::new(seq - 1) - at.key);
    captured.floats(0usize, (first + at.query) * slots + slot)
        + captured.floats(1usize, (first + at.key) * slots + slot)
}
