//! Several documents in one sequence.

use cubecl::prelude::*;

use crate::modification::{Captured, Lanes, Mask, Place};

/// A query sees the keys of its own document. `of_queries` and `of_keys` number the document of
/// each position; for self-attention both are the same.
pub fn same_document<F, I>(of_queries: I, of_keys: I) -> Mask<F, I> {
    Mask::new(same::expand)
        .with_integers(of_queries)
        .with_integers(of_keys)
}

#[cube]
fn same(at: &Place, captured: &Captured) -> Vector<bool, Lanes> {
    captured
        .integers(0usize, at.query)
        .equal(&captured.integers(1usize, at.key))
}
