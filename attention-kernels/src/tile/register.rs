//! The `register` engine: it needs no matrix unit, no plane and no shared memory.
//!
//! A lane owns a row. Rows (queries in the forward, keys in the key backward) lie across SIMD
//! lanes: across the units of a cube on a GPU, where `N` is 1, and across the lanes of a vector
//! register on a CPU, where a unit is a core and `N` is the register's width. What a row meets (a
//! key, a value) has the same address for every lane, so that it is one broadcast load. Reductions
//! along a row are then plain arithmetic between registers: no shuffle, no barrier.
//!
//! `rows[e * groups + g]` is dimension `e` of the lanes' rows in group `g`.

use cubecl::prelude::*;

/// How many rows and tokens one step multiplies. Chosen by `plan.rs`, compiled into the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RowTile {
    /// Rows per lane.
    pub groups: usize,
    /// Tokens per register tile of the first product.
    pub tokens: usize,
    /// Tokens per softmax step: a multiple of `tokens`.
    pub block: usize,
    /// Dimensions per register tile of the second product.
    pub dims: usize,
    /// Compile every index to a constant, so that rows and accumulators live in registers.
    pub unroll: bool,
}

/// Strides of a tensor, in vectors of the width that it is read with.
#[derive(CubeType, CubeLaunch, Clone, Copy)]
#[expand(derive(Clone))]
pub(crate) struct Layout {
    pub batch: usize,
    pub head: usize,
    pub seq: usize,
    pub dim: usize,
}

/// The layout with its last stride known to be 1 at compile time, where it is: neighbours along a
/// row are then one address apart, which the compiler folds into the load.
#[cube]
pub(crate) fn packed(layout: &Layout, #[comptime] packed: bool) -> Layout {
    let dim = if comptime!(packed) {
        1usize.runtime()
    } else {
        layout.dim
    };
    Layout {
        batch: layout.batch,
        head: layout.head,
        seq: layout.seq,
        dim,
    }
}

/// A register array of one value.
#[cube]
pub(crate) fn filled<N: Size>(
    #[comptime] value: f32,
    #[comptime] length: usize,
    #[comptime] unroll: bool,
) -> Array<Vector<f32, N>> {
    let mut array = Array::<Vector<f32, N>>::new(length);
    #[unroll(unroll)]
    for i in 0..length {
        array[i] = Vector::new(f32::new(value));
    }
    array
}

/// Where each lane's row begins; lanes beyond the last row repeat it.
#[cube]
pub(crate) fn row_offsets(
    rows: &Array<usize>,
    #[comptime] count: usize,
    layout: &Layout,
    batch: usize,
    head: usize,
    length: usize,
) -> Array<usize> {
    let origin = batch * layout.batch + head * layout.head;
    let mut offsets = Array::<usize>::new(count);
    #[unroll]
    for slot in 0..count {
        offsets[slot] = origin + min(rows[slot], length - 1) * layout.seq;
    }
    offsets
}

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

/// Reads `dim` elements of each lane's row into registers, times `factor`.
#[cube]
pub(crate) fn load_rows<E: Float, N: Size, W: Size>(
    source: &[Vector<E, W>],
    offsets: &Array<usize>,
    dim_stride: usize,
    factor: f32,
    #[comptime] dim: usize,
    #[comptime] tile: RowTile,
) -> Array<Vector<f32, N>> {
    let lanes = N::value();
    let width = W::value();
    let groups = comptime!(tile.groups);
    let mut rows = Array::<Vector<f32, N>>::new(comptime!((dim * groups).max(1)));
    #[unroll(tile.unroll)]
    for chunk in 0..comptime!(dim / width) {
        #[unroll]
        for g in 0..groups {
            let mut values = Array::<Vector<f32, N>>::new(width);
            #[unroll]
            for lane in 0..lanes {
                let loaded = source[offsets[comptime!(g * lanes + lane)] + chunk * dim_stride];
                #[unroll]
                for i in 0..width {
                    let value = f32::cast_from(loaded.extract(i)) * factor;
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

/// The side that every lane reads alike: the tokens of one head, as a strided matrix.
#[derive(CubeType, Clone, Copy)]
#[expand(derive(Clone))]
pub(crate) struct Stream {
    /// Where token 0 begins.
    pub origin: usize,
    /// From a token to the next.
    pub token_stride: usize,
    /// From a chunk of a token to the next.
    pub dim_stride: usize,
    /// The last token that exists: reads beyond it repeat it, and their results are discarded.
    pub last: usize,
}

#[cube]
impl Stream {
    /// The tokens of one head of a tensor.
    pub fn of(layout: &Layout, batch: usize, head: usize, last: usize) -> Stream {
        Stream {
            origin: batch * layout.batch + head * layout.head,
            token_stride: layout.seq,
            dim_stride: layout.dim,
            last,
        }
    }
}

/// `scores[(slot + t) * groups + g] = rows[., g] . source[token + t]` for one register tile.
#[cube]
fn products<E: Float, N: Size, W: Size>(
    rows: &Array<Vector<f32, N>>,
    source: &[Vector<E, W>],
    stream: &Stream,
    token: usize,
    scores: &mut Array<Vector<f32, N>>,
    slot: usize,
    #[comptime] dim: usize,
    #[comptime] tile: RowTile,
) {
    let width = W::value();
    let groups = comptime!(tile.groups);
    let count = comptime!(tile.tokens);
    let mut offsets = Array::<usize>::new(count);
    let mut sums = Array::<Vector<f32, N>>::new(comptime!(count * groups));
    #[unroll]
    for t in 0..count {
        offsets[t] = stream.origin + min(token + t, stream.last) * stream.token_stride;
        #[unroll]
        for g in 0..groups {
            sums[t * groups + g] = Vector::new(0.0f32);
        }
    }
    #[unroll(tile.unroll)]
    for chunk in 0..comptime!(dim / width) {
        #[unroll]
        for t in 0..count {
            let loaded = source[offsets[t] + chunk * stream.dim_stride];
            #[unroll]
            for i in 0..width {
                let value = Vector::<f32, N>::new(f32::cast_from(loaded.extract(i)));
                #[unroll]
                for g in 0..groups {
                    let row = rows[(chunk * width + i) * groups + g];
                    sums[t * groups + g] = fma(row, value, sums[t * groups + g]);
                }
            }
        }
    }
    #[unroll]
    for t in 0..count {
        #[unroll]
        for g in 0..groups {
            scores[(slot + t) * groups + g] = sums[t * groups + g];
        }
    }
}

/// `scores[t * groups + g] = rows[., g] . source[token + t]` for a block of tokens.
#[cube]
pub(crate) fn block_products<E: Float, N: Size, W: Size>(
    rows: &Array<Vector<f32, N>>,
    source: &[Vector<E, W>],
    stream: &Stream,
    token: usize,
    scores: &mut Array<Vector<f32, N>>,
    #[comptime] dim: usize,
    #[comptime] tile: RowTile,
) {
    #[unroll(tile.unroll)]
    for step in 0..comptime!(tile.block / tile.tokens) {
        let slot = step * comptime!(tile.tokens);
        products::<E, N, W>(rows, source, stream, token + slot, scores, slot, dim, tile);
    }
}

/// `sums[., g] = sums[., g] * decay[g] + sum over t < count of weights[t, g] * source[token + t]`.
///
/// With `unroll`, `count` is taken to be the whole block: weights beyond it must be 0.
#[cube]
pub(crate) fn accumulate<E: Float, N: Size, W: Size>(
    sums: &mut Array<Vector<f32, N>>,
    decay: &Array<Vector<f32, N>>,
    #[comptime] decays: bool,
    weights: &Array<Vector<f32, N>>,
    source: &[Vector<E, W>],
    stream: &Stream,
    token: usize,
    count: usize,
    #[comptime] dim: usize,
    #[comptime] tile: RowTile,
) {
    let dims = comptime!(tile.dims);
    let full = comptime!(dim / dims);
    #[unroll(tile.unroll)]
    for d in 0..full {
        accumulate_dims::<E, N, W>(
            sums,
            decay,
            decays,
            weights,
            source,
            stream,
            token,
            count,
            d * dims,
            dims,
            tile,
        );
    }
    let rest = comptime!(dim - full * dims);
    if comptime!(rest > 0) {
        let first = comptime!(full * dims).runtime();
        accumulate_dims::<E, N, W>(
            sums, decay, decays, weights, source, stream, token, count, first, rest, tile,
        );
    }
}

#[cube]
fn accumulate_dims<E: Float, N: Size, W: Size>(
    sums: &mut Array<Vector<f32, N>>,
    decay: &Array<Vector<f32, N>>,
    #[comptime] decays: bool,
    weights: &Array<Vector<f32, N>>,
    source: &[Vector<E, W>],
    stream: &Stream,
    token: usize,
    count: usize,
    first: usize,
    #[comptime] dims: usize,
    #[comptime] tile: RowTile,
) {
    let width = W::value();
    let groups = comptime!(tile.groups);
    let mut part = Array::<Vector<f32, N>>::new(comptime!(dims * groups));
    #[unroll]
    for i in 0..dims {
        #[unroll]
        for g in 0..groups {
            let sum = sums[(first + i) * groups + g];
            part[i * groups + g] = if comptime!(decays) {
                sum * decay[g]
            } else {
                sum
            };
        }
    }
    let start = stream.origin + first / width * stream.dim_stride;
    if comptime!(tile.unroll) {
        #[unroll]
        for t in 0..comptime!(tile.block) {
            let offset = start + min(token + t, stream.last) * stream.token_stride;
            accumulate_token::<E, N, W>(
                &mut part, weights, source, offset, stream, t, dims, groups,
            );
        }
    } else {
        for t in 0..count {
            let offset = start + (token + t) * stream.token_stride;
            accumulate_token::<E, N, W>(
                &mut part, weights, source, offset, stream, t, dims, groups,
            );
        }
    }
    #[unroll]
    for i in 0..dims {
        #[unroll]
        for g in 0..groups {
            sums[(first + i) * groups + g] = part[i * groups + g];
        }
    }
}

#[cube]
fn accumulate_token<E: Float, N: Size, W: Size>(
    part: &mut Array<Vector<f32, N>>,
    weights: &Array<Vector<f32, N>>,
    source: &[Vector<E, W>],
    offset: usize,
    stream: &Stream,
    t: usize,
    #[comptime] dims: usize,
    #[comptime] groups: usize,
) {
    let width = W::value();
    #[unroll]
    for chunk in 0..comptime!(dims / width) {
        let loaded = source[offset + chunk * stream.dim_stride];
        #[unroll]
        for i in 0..width {
            let value = Vector::<f32, N>::new(f32::cast_from(loaded.extract(i)));
            #[unroll]
            for g in 0..groups {
                let index = comptime!((chunk * width + i) * groups + g);
                part[index] = fma(weights[t * groups + g], value, part[index]);
            }
        }
    }
}
