//! Rows of a matrix into registers, and back.

use cubecl::prelude::*;

use super::{Layout, RowTile};

/// Writes `rows[., g] * factors[g]` to the row-major matrix that begins at row `first` of `target`.
/// Rows from `length` on are not written.
#[cube]
pub(crate) fn store_rows<E: Float, N: Size, W: Size>(
    rows: &mut Array<Vector<f32, N>>,
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
        for i in 0..dim {
            rows[i * groups + g] *= factors[g];
        }
        #[unroll]
        for lane in 0..lanes {
            let position = positions[comptime!(g * lanes + lane)];
            if position < length {
                #[unroll(tile.unroll)]
                for chunk in 0..chunks {
                    let mut vector = Vector::<E, W>::empty();
                    #[unroll]
                    for i in 0..width {
                        let values = rows[(chunk * width + i) * groups + g];
                        vector.insert(i, E::cast_from(values.extract(lane)));
                    }
                    target[(first + position) * chunks + chunk] = vector;
                }
            }
        }
    }
}

/// Reads `dim` elements of each lane's row of one head into registers; lanes beyond the last of
/// the `length` rows repeat it.
#[cube]
pub(crate) fn load_rows<E: Float, N: Size, W: Size>(
    source: &[Vector<E, W>],
    layout: &Layout,
    batch: usize,
    head: usize,
    positions: &Array<usize>,
    length: usize,
    #[comptime] dim: usize,
    #[comptime] tile: RowTile,
) -> Array<Vector<f32, N>> {
    let lanes = N::value();
    let width = W::value();
    let groups = comptime!(tile.groups);
    let count = comptime!(groups * lanes);
    let origin = batch * layout.batch + head * layout.head;
    let mut offsets = Array::<usize>::new(count);
    #[unroll]
    for slot in 0..count {
        offsets[slot] = origin + min(positions[slot], length - 1) * layout.seq;
    }
    let mut rows = Array::<Vector<f32, N>>::new(comptime!((dim * groups).max(1)));
    #[unroll(tile.unroll)]
    for chunk in 0..comptime!(dim / width) {
        #[unroll]
        for g in 0..groups {
            let mut values = Array::<Vector<f32, N>>::new(width);
            #[unroll]
            for lane in 0..lanes {
                let loaded = source[offsets[comptime!(g * lanes + lane)] + chunk * layout.dim];
                #[unroll]
                for i in 0..width {
                    let value = f32::cast_from(loaded.extract(i));
                    insert_lane::<N>(&mut values, i, lane, value);
                }
            }
            #[unroll]
            for i in 0..width {
                rows[(chunk * width + i) * groups + g] = values[i];
            }
        }
    }
    rows
}

#[cube]
fn insert_lane<N: Size>(
    values: &mut Array<Vector<f32, N>>,
    #[comptime] index: usize,
    #[comptime] lane: usize,
    value: f32,
) {
    if comptime!(lane == 0) {
        values[index] = Vector::new(value);
    } else {
        let mut vector = values[index];
        vector.insert(lane, value);
        values[index] = vector;
    }
}
