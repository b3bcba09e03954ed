//! A range of keys for every query.

use cubecl::prelude::*;

use crate::modification::{Captured, Lanes, Mask, Place};

/// Query `i` sees the keys from `first[i]` to before `end[i]`: packed sequences, each with its own
/// causality.
pub fn key_range<F, I>(first: I, end: I) -> Mask<F, I> {
    Mask::new(in_range::expand)
        .with_integers(first)
        .with_integers(end)
}

#[cube]
fn in_range(at: &Place, captured: &Captured) -> Vector<bool, Lanes> {
    let first = captured.integers(0usize, at.query);
    let end = captured.integers(1usize, at.query);
    at.key.greater_equal(&first).vec_and(at.key.less_than(&end))
}
