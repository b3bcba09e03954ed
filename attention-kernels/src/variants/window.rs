//! Windows around the query.

use cubecl::prelude::*;

use super::distance;
use crate::modification::{Captured, Lanes, Mask, Place};

/// Query `i`, which is at `p = i + offset` among the keys, sees those from `p - before` to
/// `p + after`.
///
/// Mistral's and Gemma's window of `w` tokens is `sliding_window(w - 1, 0, offset)`
/// (<https://arxiv.org/abs/2310.06825>, <https://arxiv.org/abs/2408.00118>).
pub fn sliding_window<F, I>(before: u32, after: u32, offset: u32) -> Mask<F, I> {
    Mask::new(within::expand)
        .with_count(before)
        .with_count(after)
        .with_count(offset)
}

#[cube]
fn within(at: &Place, captured: &Captured) -> Vector<bool, Lanes> {
    let position = at.query + Vector::new(captured.count(2usize));
    let before = Vector::new(captured.count(0usize));
    let after = Vector::new(captured.count(1usize));
    // Neither side is added to a position: it may be `u32::MAX`, no limit.
    let first = position - min(position, before);
    let last = at.key - min(at.key, after);
    at.key
        .greater_equal(&first)
        .vec_and(last.less_equal(&position))
}

/// A query sees `reach` keys to each side, every `dilation`-th: those at distances `0, dilation,
/// ..., reach * dilation` (Longformer, <https://arxiv.org/abs/2004.05150>).
pub fn dilated_window<F, I>(reach: u32, dilation: u32) -> Mask<F, I> {
    Mask::new(dilated::expand)
        .with_count(reach)
        .with_count(dilation.max(1))
}

#[cube]
fn dilated(at: &Place, captured: &Captured) -> Vector<bool, Lanes> {
    let dilation = Vector::new(captured.count(1usize));
    let distance = distance(at.query, at.key);
    let steps = distance / dilation;
    let near = steps.less_equal(&Vector::new(captured.count(0usize)));
    near.vec_and((steps * dilation).equal(&distance))
}
