//! Rows of a matrix into registers, and back.

use cubecl::prelude::*;

use super::{Aside, Layout, RowTile, beside_row, per_lane};
use crate::tile::first_chunk;

/// Writes `(rows[., g] + aside[., g]) * factors[g]` to the row-major matrix that begins at row `first` of
/// `target`. Rows from `length` on are not written.
#[cube]
pub(crate) fn store_rows<E: Float, N: Size, R: Size, W: Size>(
    rows: &Array<Vector<f32, R>>,
    factors: &Array<Vector<f32, N>>,
    target: &mut [Vector<E, W>],
    positions: &Array<usize>,
    first: usize,
    length: usize,
    aside: &Aside<N>,
    #[comptime] dim: usize,
    #[comptime] tile: RowTile,
) {
    let lanes = N::value();
    let width = W::value();
    let groups = comptime!(tile.groups);
    let chunks = comptime!(dim / width);
    let joins = comptime!(aside.every.is_some());
    if comptime!(lanes == 1) {
        let mut scaled = Array::<Vector<f32, R>>::new(comptime!(array_length(chunks, tile)));
        #[unroll]
        for g in 0..groups {
            #[unroll(tile.unroll)]
            for chunk in 0..chunks {
                scaled[chunk] = rows[chunk * groups + g] * per_lane::<N, R>(factors[g]);
            }
            let position = positions[g];
            if position < length {
                #[unroll(tile.unroll && !tile.staged)]
                for chunk in 0..trips(chunks, length, tile) {
                    let at = (first + position) * chunks + chunk;
                    let mut row = scaled[chunk];
                    if comptime!(joins) {
                        let before = aside.of::<E, W, R>(target[at], comptime!(g).runtime());
                        row += before * per_lane::<N, R>(factors[g]);
                    }
                    target[at] = Vector::cast_from(row);
                }
            }
        }
    } else {
        // One loop for all lanes: unrolled, they would be most of the kernel.
        let count = comptime!(groups * lanes);
        let elements = rows.with_vector_size::<Const<1>>();
        let factors = factors.with_vector_size::<Const<1>>();
        for slot in 0..count {
            let position = positions[slot];
            let factor = factors[slot].extract(0usize);
            if position < length {
                for chunk in 0..chunks {
                    let at = (first + position) * chunks + chunk;
                    let mut element = elements[chunk * count + slot].extract(0usize);
                    if comptime!(joins) {
                        element += aside.of::<E, W, Const<1>>(target[at], slot).extract(0usize);
                    }
                    target[at] = Vector::new(E::cast_from(element * factor));
                }
            }
        }
    }
}

/// Reads `dim` elements of each lane's row of one head into registers: all, or where lanes share the dimensions its
/// own. Lanes beyond the last of the `length` rows repeat it.
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
    #[unroll(lanes == 1)]
    for slot in 0..count {
        offsets[slot] = origin + min(positions[slot], length - 1) * layout.seq;
    }
    let first = first_chunk(tile);
    let slots = comptime!(chunks * groups);
    let mut rows = Array::<Vector<f32, R>>::new(comptime!(array_length(slots, tile)));
    if comptime!(lanes == 1) {
        #[unroll(tile.unroll && !tile.staged)]
        for chunk in 0..trips(chunks, length, tile) {
            #[unroll]
            for g in 0..groups {
                let column = chunk * comptime!(tile.spread.columns()) + first;
                let loaded = source[offsets[g] + column * layout.dim];
                rows[chunk * groups + g] = beside_row::<E, N, R, W>(loaded);
            }
        }
    } else {
        let elements = rows.with_vector_size_mut::<Const<1>>();
        for slot in 0..count {
            for chunk in 0..chunks {
                let loaded = source[offsets[slot] + chunk * layout.dim].extract(0usize);
                elements[chunk * count + slot] = Vector::new(f32::cast_from(loaded));
            }
        }
    }
    if comptime!(tile.staged) {
        let mut held = Array::<Vector<f32, R>>::new(comptime!(slots.max(1)));
        #[unroll]
        for slot in 0..slots {
            held[slot] = rows[slot];
        }
        held
    } else {
        rows
    }
}

/// Mesa unrolls a loop of up to this many turns, and takes the length of an array that the loop
/// indexes for the number of its turns.
const UNROLLED_BY_DRIVERS: usize = 32;

/// How long an array of `slots` rows is made: staged, long enough that no driver unrolls the loop
/// that fills it.
fn array_length(slots: usize, tile: RowTile) -> usize {
    let least = if tile.staged {
        UNROLLED_BY_DRIVERS + 1
    } else {
        1
    };
    slots.max(least)
}

/// How often a loop over `chunks` turns: staged, no driver must know.
#[cube]
fn trips(#[comptime] chunks: usize, length: usize, #[comptime] tile: RowTile) -> usize {
    if comptime!(tile.staged) {
        select(length > 0, chunks, 0usize)
    } else {
        chunks.runtime()
    }
}
