//! Causality as code: what the option `causal` has built in.

use cubecl::prelude::*;

use crate::modification::{Captured, Lanes, Mask, Place};

/// Query `i` sees the keys up to `i + offset`.
///
/// With `offset` 0 this is the top-left alignment, with `seq_kv - seq_q` the bottom-right one.
pub fn causal<F, I>(offset: u32) -> Mask<F, I> {
    Mask::new(not_later::expand).with_count(offset)
}

#[cube]
fn not_later(at: &Place, captured: &Captured) -> Vector<bool, Lanes> {
    let reach = at.query + Vector::new(captured.count(0usize));
    at.key.less_equal(&reach)
}
