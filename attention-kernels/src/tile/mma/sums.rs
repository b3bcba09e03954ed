//! Sums of a plane's rows, and what their lanes share.

use cubecl::prelude::*;

use super::{DEPTH, padded};
use crate::tile::{Aside, RowTile, Spread, filled, lane_start};

/// What a lane's sums are of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Sums {
    /// Dimensions of a row.
    pub dim: usize,
    /// One more tile, whose every dimension is the sum of the row's weights.
    pub counts: bool,
}

impl Sums {
    /// Tiles of sums that hold dimensions.
    pub fn tiles(self, tile: RowTile) -> usize {
        padded(self.dim) / tile.spread.tile_width()
    }

    /// Vectors of a tile of rows.
    pub fn row_tile(self, tile: RowTile) -> usize {
        (self.tiles(tile) + usize::from(self.counts)) * tile.spread.sum_vectors()
    }

    /// Vectors of all rows.
    pub fn length(self, tile: RowTile) -> usize {
        tile.groups / tile.spread.groups_per_tile() * self.row_tile(tile)
    }

    /// Where the sum of a row's weights lies.
    pub fn count(self, g: usize, tile: RowTile) -> usize {
        let of_tile = tile.spread.groups_per_tile();
        let first = self.tiles(tile) * tile.spread.sum_vectors();
        g / of_tile * self.row_tile(tile) + first + g % of_tile
    }
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
        let place = lane % 4;
        place == 0
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

/// After a step: sets aside the sums, where it is time.
#[cube]
pub(crate) fn set_aside<E: Float, N: Size, C: Size, P: Size>(
    aside: &mut Aside<N>,
    sums: &mut Array<Vector<f32, C>>,
    target: &mut [Vector<E, P>],
    positions: &Array<usize>,
    first: usize,
    length: usize,
    #[comptime] layout: Sums,
    #[comptime] tile: RowTile,
) {
    if comptime!(aside.every.is_some()) {
        let due = aside.due();
        if due {
            let ones = filled::<N>(1.0f32, tile.groups, true);
            store_sums::<E, N, C, P>(
                &*sums, &ones, target, positions, first, length, &*aside, layout, tile,
            );
            aside.begin::<C>(sums, tile);
        }
    }
}

/// Writes `(sums[., g] + aside[., g]) * factors[g]` to the row-major matrix that begins at row `first` of
/// `target`. Rows from `length` on are not written.
#[cube]
pub(crate) fn store_sums<E: Float, N: Size, C: Size, P: Size>(
    sums: &Array<Vector<f32, C>>,
    factors: &Array<Vector<f32, N>>,
    target: &mut [Vector<E, P>],
    positions: &Array<usize>,
    first: usize,
    length: usize,
    aside: &Aside<N>,
    #[comptime] layout: Sums,
    #[comptime] tile: RowTile,
) {
    let joins = comptime!(aside.every.is_some());
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
                        let mut found = Vector::<f32, P>::new(0.0f32);
                        #[unroll]
                        for i in 0..piece {
                            found.insert(i, sums[slot].extract(comptime!(p * piece + i)));
                        }
                        let dimension = at + comptime!(p * piece);
                        if comptime!(dim.is_multiple_of(DEPTH)) || dimension < dim {
                            let at = row + dimension / piece;
                            if comptime!(joins) {
                                found += aside.of::<E, P, P>(target[at], comptime!(g).runtime());
                            }
                            target[at] = Vector::cast_from(found * Vector::new(factor));
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
        _ => lane_start(spread) + comptime!(v),
    }
}
