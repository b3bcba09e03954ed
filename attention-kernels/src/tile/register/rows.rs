//! Rows of a matrix into registers, and back.

use cubecl::prelude::*;

use super::{Layout, RowTile, beside_row, per_lane};

/// Writes `rows[., g] * factors[g]` to the row-major matrix that begins at row `first` of `target`.
/// Rows from `length` on are not written.
#[cube]
pub(crate) fn store_rows<E: Float, N: Size, R: Size, W: Size>(
    rows: &mut Array<Vector<f32, R>>,
    factors: &Array<Vector<f32, N>>,
    target: &mut [Vector<E, W>],
    positions: &Array<usize>,
    first: usize,
    length: usize,
    #[comptime] dim: usize,
    #[comptime] tile: RowTile,
) {
    let lanes = N::value();
    let width = W::value();
    let groups = comptime!(tile.groups);
    let chunks = comptime!(dim / width);
    #[unroll]
    for g in 0..groups {
        #[unroll(tile.unroll)]
        for chunk in 0..chunks {
            rows[chunk * groups + g] *= per_lane::<N, R>(factors[g]);
        }
        #[unroll]
        for lane in 0..lanes {
            let position = positions[comptime!(g * lanes + lane)];
            if position < length {
                #[unroll(tile.unroll)]
                for chunk in 0..chunks {
                    let row = rows[chunk * groups + g];
                    target[(first + position) * chunks + chunk] = if comptime!(lanes == 1) {
                        Vector::cast_from(row)
                    } else {
                        Vector::new(E::cast_from(row.extract(lane)))
                    };
                }
            }
        }
    }
}

/// Reads `dim` elements of each lane's row of one head into registers; lanes beyond the last of
/// the `length` rows repeat it.
#[cube]
pub(crate) fn load_rows<E: Float, N: Size, R: Size, W: Size>(
    source: &[Vector<E, W>],
    layout: &Layout,
    batch: usize,
    head: usize,
    positions: &Array<usize>,
    length: usize,
    #[comptime] dim: usize,
    #[comptime] tile: RowTile,
) -> Array<Vector<f32, R>> {
    let lanes = N::value();
    let groups = comptime!(tile.groups);
    let count = comptime!(groups * lanes);
    let width = W::value();
    let chunks = comptime!(dim / width);
    let origin = batch * layout.batch + head * layout.head;
    let mut offsets = Array::<usize>::new(count);
    #[unroll]
    for slot in 0..count {
        offsets[slot] = origin + min(positions[slot], length - 1) * layout.seq;
    }
    let mut rows = Array::<Vector<f32, R>>::new(comptime!((chunks * groups).max(1)));
    #[unroll(tile.unroll)]
    for chunk in 0..chunks {
        #[unroll]
        for g in 0..groups {
            let first = source[offsets[comptime!(g * lanes)] + chunk * layout.dim];
            let mut row = beside_row::<E, N, R, W>(first);
            #[unroll]
            for lane in 1..lanes {
                let loaded = source[offsets[comptime!(g * lanes + lane)] + chunk * layout.dim];
                row.insert(lane, f32::cast_from(loaded.extract(0usize)));
            }
            rows[chunk * groups + g] = row;
        }
    }
    rows
}
