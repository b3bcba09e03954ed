//! Padded batches.

use cubecl::prelude::*;

use crate::modification::{Captured, Lanes, Mask, Place};

/// Queries of a batch element see its first keys only: `lengths` has their number for each.
pub fn padding<F, I>(lengths: I) -> Mask<F, I> {
    Mask::new(before_padding::expand).with_integers(lengths)
}

#[cube]
fn before_padding(at: &Place, captured: &Captured) -> Vector<bool, Lanes> {
    at.key
        .less_than(&Vector::new(captured.integer(0usize, at.batch)))
}
