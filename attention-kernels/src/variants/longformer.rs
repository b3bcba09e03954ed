//! Longformer's global tokens.

use cubecl::prelude::*;

use crate::modification::{Captured, Lanes, Mask, Place};

/// Flagged tokens see all and are seen by all: `flags` has a number other than 0 for each of them.
///
/// Longformer (<https://arxiv.org/abs/2004.05150>) is
/// `dilated_window(reach, dilation).or(flagged_tokens(flags))`.
pub fn flagged_tokens<F, I>(flags: I) -> Mask<F, I> {
    Mask::new(either_flagged::expand).with_integers(flags)
}

#[cube]
fn either_flagged(at: &Place, captured: &Captured) -> Vector<bool, Lanes> {
    let none = Vector::<u32, Lanes>::new(0u32);
    captured
        .integers(0usize, at.query)
        .not_equal(&none)
        .or(captured.integers(0usize, at.key).not_equal(&none))
}
