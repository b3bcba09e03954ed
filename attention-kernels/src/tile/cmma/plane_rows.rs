//! Rows in shared memory, each plane's its own.

use cubecl::{cmma, prelude::*};

use super::{PlaneTile, QUAD, Quad};

/// Numbers of every plane's rows. Lanes read and write them as vectors, the plane as fragments.
#[derive(CubeType)]
pub(super) struct PlaneRows<T: Scalar> {
    pub memory: Shared<[Vector<T, Quad>]>,
    #[cube(comptime)]
    stride: usize,
    #[cube(comptime)]
    tile: PlaneTile,
}

#[cube]
impl<T: Scalar> PlaneRows<T> {
    /// Rows that lie `stride` numbers apart.
    pub fn new(#[comptime] stride: usize, #[comptime] tile: PlaneTile) -> PlaneRows<T> {
        let length = comptime!(tile.planes * tile.rows * stride / QUAD);
        PlaneRows::<T> {
            memory: Shared::new_aligned_slice(length, 16usize),
            stride,
            tile,
        }
    }

    /// Where a column of a row of this plane lies, in vectors.
    pub fn at(&self, row: usize, column: usize) -> usize {
        let row = PLANE_POS as usize * self.tile.rows + row;
        row * comptime!(self.stride / QUAD) + column / QUAD
    }

    /// Stores a fragment of so many columns.
    pub fn take(
        &mut self,
        fragment: &cmma::Matrix<T>,
        row: usize,
        column: usize,
        #[comptime] columns: usize,
    ) {
        let start = self.at(row, column);
        let end = start + comptime!(((self.tile.m - 1) * self.stride + columns) / QUAD);
        cmma::store(
            &mut self.memory[start..end],
            fragment,
            comptime!(self.stride as u32),
            cmma::MatrixLayout::RowMajor,
        );
    }

    /// Loads a fragment of so many columns.
    pub fn give(
        &self,
        fragment: &mut cmma::Matrix<T>,
        row: usize,
        column: usize,
        #[comptime] columns: usize,
    ) {
        let start = self.at(row, column);
        let end = start + comptime!(((self.tile.m - 1) * self.stride + columns) / QUAD);
        cmma::load_with_layout(
            fragment,
            &self.memory[start..end],
            comptime!(self.stride as u32),
            cmma::MatrixLayout::RowMajor,
        );
    }
}
