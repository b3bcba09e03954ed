//! The rows of a plane as operands.

use cubecl::{cmma, prelude::*};

use super::{PlaneTile, QUAD, Quad, Scratch, plane_rows::PlaneRows, scratch::weight_stride};
use crate::tile::Layout;

/// For each step of [`PlaneTile::k`] dimensions, a fragment for each [`PlaneTile::m`] rows: held, or in
/// shared memory.
#[derive(CubeType)]
pub(crate) struct RowOperands<E: Float> {
    parts: Sequence<cmma::Matrix<E>>,
    lent: ComptimeOption<PlaneRows<E>>,
    #[cube(comptime)]
    pub(super) dim: usize,
    #[cube(comptime)]
    tile: PlaneTile,
}

#[cube]
impl<E: Float> RowOperands<E> {
    /// Room for rows of `dim` dimensions.
    pub fn new(#[comptime] dim: usize, #[comptime] tile: PlaneTile) -> RowOperands<E> {
        let mut parts = Sequence::<cmma::Matrix<E>>::new();
        let lent = if comptime!(tile.lent) {
            let stride = comptime!(weight_stride(tile.padded(dim)));
            ComptimeOption::new_Some(PlaneRows::<E>::new(stride, tile))
        } else {
            #[unroll]
            for _ in 0..comptime!(tile.padded(dim) / tile.k * tile.row_tiles()) {
                parts.push(row_operand(tile));
            }
            ComptimeOption::new_None()
        };
        RowOperands::<E> {
            parts,
            lent,
            dim,
            tile,
        }
    }

    /// The operand of the `r`-th rows and the `step`-th dimensions, where it is held.
    pub(super) fn held(&self, #[comptime] r: usize, #[comptime] step: usize) -> &cmma::Matrix<E> {
        self.parts
            .index(comptime!(step * self.tile.row_tiles() + r))
    }

    /// The same from shared memory.
    pub(super) fn borrow(&self, #[comptime] r: usize, step: usize) -> cmma::Matrix<E> {
        let tile = comptime!(self.tile);
        let mut operand = row_operand::<E>(tile);
        self.lent.as_ref().unwrap().give(
            &mut operand,
            comptime!(r * tile.m).runtime(),
            step * tile.k,
            tile.k,
        );
        operand
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
        let tile = comptime!(self.tile);
        let dim = comptime!(self.dim);
        let rows = SourceRows {
            origin: batch * layout.batch + head * layout.head,
            first: first + PLANE_POS as usize * tile.rows,
            last: length - 1,
            stride: layout.seq,
            dim_stride: layout.dim,
            zero: scratch.zero,
            dim,
        };
        #[comptime]
        match &mut self.lent {
            ComptimeOption::Some(lent) => {
                rows.copy::<E, P>(source, lent, 0usize, comptime!(tile.padded(dim)), tile);
            }
            ComptimeOption::None =>
            {
                #[unroll]
                for piece in 0..comptime!(tile.pieces(dim)) {
                    let columns = comptime!(tile.piece_columns(dim, piece));
                    let from = comptime!(piece * tile.block);
                    rows.copy::<E, P>(source, &mut scratch.weights, from, columns, tile);
                    sync_plane();
                    #[unroll]
                    for step in 0..comptime!(columns / tile.k) {
                        #[unroll]
                        for r in 0..comptime!(tile.row_tiles()) {
                            let part = comptime!((from / tile.k + step) * tile.row_tiles() + r);
                            scratch.weights.give(
                                self.parts.index_mut(part),
                                comptime!(r * tile.m).runtime(),
                                comptime!(step * tile.k).runtime(),
                                tile.k,
                            );
                        }
                    }
                    sync_plane();
                }
            }
        }
        if comptime!(tile.lent) {
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

/// The rows of a plane in global memory.
#[derive(CubeType)]
struct SourceRows {
    origin: usize,
    first: usize,
    last: usize,
    stride: usize,
    dim_stride: usize,
    zero: usize,
    #[cube(comptime)]
    dim: usize,
}

#[cube]
impl SourceRows {
    /// Copies so many dimensions from `from` on; zeros from the last on.
    fn copy<E: Float, P: Size>(
        &self,
        source: &[Vector<E, P>],
        target: &mut PlaneRows<E>,
        #[comptime] from: usize,
        #[comptime] columns: usize,
        #[comptime] tile: PlaneTile,
    ) {
        let plane = comptime!(tile.rows * tile.lanes);
        let across = comptime!(columns / QUAD);
        let quads = comptime!(tile.rows * across);
        for turn in 0..comptime!(quads.div_ceil(plane)) + self.zero {
            let quad = min(
                turn * plane + UNIT_POS_PLANE as usize,
                comptime!(quads - 1).runtime(),
            );
            let (row, column) = (quad / across, quad % across * QUAD);
            let at = target.at(row, column);
            target.memory[at] = self.read::<E, P>(source, row, column + from, tile);
        }
    }

    fn read<E: Float, P: Size>(
        &self,
        source: &[Vector<E, P>],
        row: usize,
        dimension: usize,
        #[comptime] tile: PlaneTile,
    ) -> Vector<E, Quad> {
        let width = P::value();
        let dim = comptime!(self.dim);
        let start = self.origin + min(self.first + row, self.last) * self.stride;
        let zero = E::from_int(0);
        let mut read = Vector::<E, Quad>::new(zero);
        #[unroll]
        for p in 0..comptime!(QUAD / width) {
            let at = dimension + comptime!(p * width);
            let exists = comptime!(dim == tile.padded(dim)).runtime() || at < dim;
            let loaded = source[start + select(exists, at, 0) / width * self.dim_stride];
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
}
