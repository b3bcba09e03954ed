//! Loops whose counter leads to an address that all lanes share.

use cubecl::prelude::*;

/// The turn of a loop of `count`, kept in range.
///
/// lavapipe (Mesa 26.2) runs a loop's body once more after its last turn, with every lane off. It discards what that
/// turn computes, but performs the loads whose address all lanes share. CubeCL's SPIR-V hands it addresses and no
/// bounds, so beyond a tensor's end such a load may meet memory that is not there.
#[cube]
pub(crate) fn turn(index: usize, count: usize) -> usize {
    min(index, count - 1)
}
