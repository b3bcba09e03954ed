//! The rows of a plane as operands.

use cubecl::{cmma, prelude::*};

use super::{PlaneTile, QUAD, Scratch};
use crate::tile::Layout;

/// For each step of [`PlaneTile::k`] dimensions, a fragment for each [`PlaneTile::m`] rows.
#[derive(CubeType)]
pub(crate) struct RowOperands<E: Float> {
    pub(super) parts: Sequence<cmma::Matrix<E>>,
    #[cube(comptime)]
    pub(super) dim: usize,
}

#[cube]
impl<E: Float> RowOperands<E> {
    /// Room for rows of `dim` dimensions.
    pub fn new(#[comptime] dim: usize, #[comptime] tile: PlaneTile) -> RowOperands<E> {
        let mut parts = Sequence::<cmma::Matrix<E>>::new();
        #[unroll]
        for _ in 0..comptime!(tile.padded(dim) / tile.k * tile.row_tiles()) {
            parts.push(row_operand(tile));
        }
        RowOperands::<E> { parts, dim }
    }

    /// Reads the plane's rows of one head, of which `first` is the cube's first; those beyond the last
    /// of the `length` repeat it.
    pub fn load<P: Size>(
        &mut self,
        scratch: &mut Scratch<E>,
        source: &[Vector<E, P>],
        layout: &Layout,
        batch: usize,
        head: usize,
        first: usize,
        length: usize,
    ) {
        let tile = comptime!(scratch.tile);
        let dim = comptime!(self.dim);
        let row_tiles = comptime!(tile.row_tiles());
        let plane = comptime!(tile.rows * tile.lanes);
        let origin = batch * layout.batch + head * layout.head;
        let first = first + PLANE_POS as usize * tile.rows;
        #[unroll]
        for piece in 0..comptime!(tile.pieces(dim)) {
            let columns = comptime!(tile.columns(dim, piece));
            let across = comptime!(columns / QUAD);
            let quads = comptime!(tile.rows * across);
            for turn in 0..comptime!(quads.div_ceil(plane)) {
                let quad = min(
                    turn * plane + UNIT_POS_PLANE as usize,
                    comptime!(quads - 1).runtime(),
                );
                let (row, column) = (quad / across, quad % across * QUAD);
                let from = origin + min(first + row, length - 1) * layout.seq;
                let at = scratch.weight_at(row, column);
                scratch.weights[at] = read_dims::<E, P>(
                    source,
                    from,
                    layout.dim,
                    column + comptime!(piece * tile.block),
                    dim,
                    tile,
                );
            }
            sync_plane();
            #[unroll]
            for step in 0..comptime!(columns / tile.k) {
                #[unroll]
                for r in 0..row_tiles {
                    let part = comptime!((piece * tile.block / tile.k + step) * row_tiles + r);
                    scratch.operand(
                        self.parts.index_mut(part),
                        comptime!(r * tile.m),
                        comptime!(step * tile.k),
                    );
                }
            }
            sync_plane();
        }
    }
}

/// An operand of rows, yet to be loaded.
#[cube]
pub(super) fn row_operand<E: Float>(#[comptime] tile: PlaneTile) -> cmma::Matrix<E> {
    // SAFETY: every operand is loaded before it is multiplied.
    unsafe {
        cmma::Matrix::<E>::uninitialized(
            cmma::MatrixIdent::A,
            tile.m,
            tile.n,
            tile.k,
            cmma::MatrixLayout::RowMajor,
        )
    }
}

/// Dimensions of a row from `first` on; zeros from `dim` on.
#[cube]
fn read_dims<E: Float, P: Size>(
    source: &[Vector<E, P>],
    row: usize,
    stride: usize,
    first: usize,
    #[comptime] dim: usize,
    #[comptime] tile: PlaneTile,
) -> Vector<E, Const<QUAD>> {
    let width = P::value();
    let zero = E::from_int(0);
    let mut read = Vector::<E, Const<QUAD>>::new(zero);
    #[unroll]
    for p in 0..comptime!(QUAD / width) {
        let at = first + comptime!(p * width);
        let exists = comptime!(dim == tile.padded(dim)).runtime() || at < dim;
        let loaded = source[row + select(exists, at, 0) / width * stride];
        #[unroll]
        for i in 0..width {
            read.insert(
                comptime!(p * width + i),
                select(exists, loaded.extract(i), zero),
            );
        }
    }
    read
}
