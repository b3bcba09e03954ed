//! Loops whose counter leads to an address that all lanes share.

use cubecl::prelude::*;

/// The turn of a loop of `count`, kept in range.
///
/// lavapipe runs a loop's body once more after its last turn, with every lane off. It discards what that turn
/// computes, but it performs the loads whose address all lanes share: beyond a tensor's end they would meet
/// memory that nobody has (gallivm's `emit_load_global` and `emit_load_mem`, Mesa 26.2).
#[cube]
pub(crate) fn turn(index: usize, count: usize) -> usize {
    min(index, count - 1)
}
