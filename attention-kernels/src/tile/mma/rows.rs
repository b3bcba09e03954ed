//! Rows that stay in registers, and sums on their way out.

use cubecl::prelude::*;

use super::{DEPTH, Sums, padded};
use crate::tile::{Layout, RowTile, Spread, lane_start};

/// The rows of one head as operands: for each tile of 16 rows, one for each 16 dimensions.
#[cube]
pub(crate) fn row_operand<E: Float, R: Size, P: Size>(
    source: &[Vector<E, P>],
    layout: &Layout,
    batch: usize,
    head: usize,
    positions: &Array<usize>,
    length: usize,
    #[comptime] dim: usize,
    #[comptime] tile: RowTile,
) -> Array<Vector<E, R>> {
    let spread = comptime!(tile.spread);
    let groups = comptime!(spread.groups_per_tile());
    let tiles = comptime!(tile.groups / groups);
    let steps = comptime!(padded(dim) / DEPTH);
    let vectors = comptime!(spread.operand_vectors());
    let origin = batch * layout.batch + head * layout.head;
    let mut operand = Array::<Vector<E, R>>::new(comptime!(tiles * steps * vectors));
    #[unroll]
    for m in 0..tiles {
        #[unroll]
        for step in 0..steps {
            #[unroll]
            for v in 0..vectors {
                let position = positions[comptime!(m * groups + v % groups)];
                let row = origin + min(position, length - 1) * layout.seq;
                let first = comptime!(step * DEPTH) + operand_start(v, spread);
                operand[comptime!((m * steps + step) * vectors + v)] =
                    read_dims::<E, R, P>(source, row, layout.dim, first, dim);
            }
        }
    }
    operand
}

/// The first dimension of a lane's `v`-th vector of an operand.
#[cube]
pub(super) fn operand_start(#[comptime] v: usize, #[comptime] spread: Spread) -> usize {
    match comptime!(spread) {
        Spread::Quads => lane_start(spread) + comptime!(8 * (v / 2)),
        Spread::Halves => lane_start(spread),
        Spread::Lane | Spread::Alternating => comptime!(8 * v).runtime(),
    }
}

/// `R` dimensions of a row; zeros from `dim` on.
#[cube]
fn read_dims<E: Float, R: Size, P: Size>(
    source: &[Vector<E, P>],
    row: usize,
    stride: usize,
    first: usize,
    #[comptime] dim: usize,
) -> Vector<E, R> {
    let width = R::value();
    let piece = P::value();
    let zero = E::from_int(0);
    let mut read = Vector::<E, R>::new(zero);
    #[unroll]
    for p in 0..comptime!(width / piece) {
        let at = first + comptime!(p * piece);
        let exists = comptime!(dim % DEPTH == 0).runtime() || at < dim;
        let loaded = source[row + select(exists, at, 0) / piece * stride];
        #[unroll]
        for i in 0..piece {
            read.insert(
                comptime!(p * piece + i),
                select(exists, loaded.extract(i), zero),
            );
        }
    }
    read
}

/// The sum over the lanes that share a row.
#[cube]
pub(crate) fn row_total(value: f32, #[comptime] spread: Spread) -> f32 {
    if comptime!(spread == Spread::Quads) {
        let pair = value + plane_shuffle_xor(value, 1);
        pair + plane_shuffle_xor(pair, 2)
    } else {
        value + plane_shuffle_xor(value, 16)
    }
}

/// The largest over the lanes that share a row.
#[cube]
pub(crate) fn row_highest(value: f32, #[comptime] spread: Spread) -> f32 {
    if comptime!(spread == Spread::Quads) {
        let pair = max(value, plane_shuffle_xor(value, 1));
        max(pair, plane_shuffle_xor(pair, 2))
    } else {
        max(value, plane_shuffle_xor(value, 16))
    }
}

/// Whether this lane is the one that writes what its row has one of.
#[cube]
pub(crate) fn writes_row(#[comptime] spread: Spread) -> bool {
    let lane = UNIT_POS_PLANE;
    if comptime!(spread == Spread::Quads) {
        lane % 4 == 0
    } else {
        lane < 16
    }
}

/// `sums[., g] *= factors[g]`
#[cube]
pub(crate) fn scale_sums<N: Size, C: Size>(
    sums: &mut Array<Vector<f32, C>>,
    factors: &Array<Vector<f32, N>>,
    #[comptime] layout: Sums,
    #[comptime] tile: RowTile,
) {
    let of_tile = comptime!(tile.spread.groups_per_tile());
    let row_tiles = comptime!(tile.groups / of_tile);
    let per_row_tile = comptime!(layout.row_tile(tile));
    #[unroll]
    for m in 0..row_tiles {
        #[unroll]
        for v in 0..per_row_tile {
            let g = comptime!(m * of_tile + v % of_tile);
            sums[comptime!(m * per_row_tile + v)] *= Vector::new(factors[g].extract(0usize));
        }
    }
}

/// Writes `sums[., g] * factors[g]` to the row-major matrix that begins at row `first` of `target`.
/// Rows from `length` on are not written.
#[cube]
pub(crate) fn store_sums<E: Float, N: Size, C: Size, P: Size>(
    sums: &Array<Vector<f32, C>>,
    factors: &Array<Vector<f32, N>>,
    target: &mut [Vector<E, P>],
    positions: &Array<usize>,
    first: usize,
    length: usize,
    #[comptime] layout: Sums,
    #[comptime] tile: RowTile,
) {
    let spread = comptime!(tile.spread);
    let groups = comptime!(spread.groups_per_tile());
    let across = comptime!(spread.tile_width());
    let dim = comptime!(layout.dim);
    let vectors = comptime!(spread.sum_vectors());
    let width = C::value();
    let piece = P::value();
    #[unroll]
    for g in 0..comptime!(tile.groups) {
        let factor = factors[g].extract(0usize);
        if positions[g] < length {
            let row = (first + positions[g]) * comptime!(dim / piece);
            #[unroll]
            for d in 0..comptime!(layout.tiles(tile)) {
                #[unroll]
                for v in 0..comptime!(vectors / groups) {
                    let slot = comptime!(
                        g / groups * layout.row_tile(tile) + d * vectors + v * groups + g % groups
                    );
                    let at = comptime!(d * across) + sum_start(v, spread);
                    #[unroll]
                    for p in 0..comptime!(width / piece) {
                        let mut piece_out = Vector::<E, P>::new(E::from_int(0));
                        #[unroll]
                        for i in 0..piece {
                            let sum = sums[slot].extract(comptime!(p * piece + i)) * factor;
                            piece_out.insert(i, E::cast_from(sum));
                        }
                        let dimension = at + comptime!(p * piece);
                        if comptime!(dim % across == 0) || dimension < dim {
                            target[row + dimension / piece] = piece_out;
                        }
                    }
                }
            }
        }
    }
}

/// The first dimension of a row's `v`-th vector of sums in a lane.
#[cube]
fn sum_start(#[comptime] v: usize, #[comptime] spread: Spread) -> usize {
    match comptime!(spread) {
        Spread::Alternating => lane_start(spread) + comptime!(2 * v),
        Spread::Lane | Spread::Quads | Spread::Halves => lane_start(spread) + comptime!(v),
    }
}
