//! Keys that are never let go.

use cubecl::prelude::*;

use crate::modification::{Captured, Lanes, Mask, Place};

/// The first `count` keys are seen by every query.
///
/// StreamingLLM (<https://arxiv.org/abs/2309.17453>) is
/// `first_tokens(4).or(sliding_window(w - 1, 0, offset)).and(causal(offset))`.
pub fn first_tokens<F, I>(count: u32) -> Mask<F, I> {
    Mask::new(among_the_first::expand).with_count(count)
}

#[cube]
fn among_the_first(at: &Place, captured: &Captured) -> Vector<bool, Lanes> {
    at.key.less_than(&Vector::new(captured.count(0usize)))
}
