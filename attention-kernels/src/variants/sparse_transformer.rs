//! The factorised patterns of the Sparse Transformer (<https://arxiv.org/abs/1904.10509>), not yet
//! causal: combine them with [`causal`](super::causal).
//!
//! | | first pattern | second pattern |
//! |---|---|---|
//! | strided | `sliding_window(stride, 0, 0)` | `strided(stride)` |
//! | fixed | `same_document`, blocks of `stride` | `fixed_summary(stride, c)` |

use cubecl::prelude::*;

use super::distance;
use crate::modification::{Captured, Lanes, Mask, Place};

/// A query sees every `stride`-th key, counted from itself.
pub fn strided<F, I>(stride: u32) -> Mask<F, I> {
    Mask::new(whole_strides::expand).with_count(stride.max(1))
}

#[cube]
fn whole_strides(at: &Place, captured: &Captured) -> Vector<bool, Lanes> {
    let remainder = distance(at.query, at.key) % Vector::new(captured.count(0usize));
    remainder.equal(&Vector::new(0u32))
}

/// Every query sees the last `count` keys of each block of `stride`.
pub fn fixed_summary<F, I>(stride: u32, count: u32) -> Mask<F, I> {
    let stride = stride.max(1);
    Mask::new(end_of_block::expand)
        .with_count(stride)
        .with_count(stride.saturating_sub(count))
}

#[cube]
fn end_of_block(at: &Place, captured: &Captured) -> Vector<bool, Lanes> {
    let remainder = at.key % Vector::new(captured.count(0usize));
    remainder.greater_equal(&Vector::new(captured.count(1usize)))
}
