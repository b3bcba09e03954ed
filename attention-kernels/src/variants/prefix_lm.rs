//! Prefix language models.

use cubecl::prelude::*;

use crate::modification::{Captured, Lanes, Mask, Place};

/// A query sees the keys up to itself, and all of the prefix. `lengths` has the prefix' length of
/// each batch element (UniLM, <https://arxiv.org/abs/1905.03197>; T5,
/// <https://arxiv.org/abs/1910.10683>).
pub fn prefix_lm<F, I>(lengths: I) -> Mask<F, I> {
    Mask::new(earlier_or_prefix::expand).with_integers(lengths)
}

#[cube]
fn earlier_or_prefix(at: &Place, captured: &Captured) -> Vector<bool, Lanes> {
    let prefix = Vector::new(captured.integer(0usize, at.batch));
    at.key.less_equal(&at.query).or(at.key.less_than(&prefix))
}
