//! Positions in cells.

use cubecl::prelude::*;

/// Positions in cells that follow each other: the first `longer` cells have `least + 1` positions,
/// the others `least`.
#[derive(CubeType, CubeLaunch, Clone, Copy)]
#[expand(derive(Clone))]
pub(super) struct Partition {
    pub least: usize,
    pub longer: usize,
}

/// `length` positions in `cells` cells.
pub(super) fn split(length: usize, cells: usize) -> Partition {
    Partition {
        least: length / cells,
        longer: length % cells,
    }
}

#[cube]
impl Partition {
    /// The first position of a cell.
    pub fn start(&self, cell: usize) -> usize {
        cell * self.least + min(cell, self.longer)
    }
}
