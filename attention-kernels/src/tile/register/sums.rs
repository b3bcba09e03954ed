//! Weights times tokens: the second product.

use cubecl::prelude::*;

use super::{RowTile, Stream, TOKEN_CHAIN, beside_row, filled, per_lane, unpacked};

/// `sums[., g] = sums[., g] * decay[g] + sum over t < count of weights[t, g] * source[token + t]`.
///
/// With `unroll`, `count` is taken to be the whole block: weights beyond it must be 0.
#[cube]
pub(crate) fn accumulate<E: Float, N: Size, R: Size, W: Size>(
    sums: &mut Array<Vector<f32, R>>,
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
    if comptime!(tile.unpacks) {
        let (tokens, stream) = unpacked::<E, N, W>(source, stream, token, dim, tile);
        let tokens = tokens.with_vector_size::<W>();
        let first = 0usize.runtime();
        add::<f32, N, R, W>(
            sums, decay, decays, weights, tokens, &stream, first, count, dim, tile,
        );
    } else {
        add::<E, N, R, W>(
            sums, decay, decays, weights, source, stream, token, count, dim, tile,
        );
    }
}

/// [`accumulate`] with tokens as they are.
#[cube]
fn add<E: Float, N: Size, R: Size, W: Size>(
    sums: &mut Array<Vector<f32, R>>,
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
    if comptime!(tile.unroll) {
        add_tokens::<E, N, R, W>(
            sums,
            decay,
            decays,
            weights,
            source,
            stream,
            token,
            0usize.runtime(),
            count,
            dim,
            tile,
        );
    } else {
        // Chains outside and dimensions inside: what a chain reads stays in the first-level cache.
        for chain in 0..count.div_ceil(TOKEN_CHAIN) {
            let start = chain * TOKEN_CHAIN;
            let end = min(start + TOKEN_CHAIN, count);
            let mut kept = Array::<Vector<f32, N>>::new(comptime!(tile.groups));
            #[unroll]
            for g in 0..comptime!(tile.groups) {
                kept[g] = if comptime!(decays) {
                    select(chain == 0, decay[g], Vector::new(1.0f32))
                } else {
                    Vector::new(1.0f32)
                };
            }
            add_tokens::<E, N, R, W>(
                sums, &kept, decays, weights, source, stream, token, start, end, dim, tile,
            );
        }
    }
}

/// Adds the products of the tokens from `start` to `end` of a step.
#[cube]
fn add_tokens<E: Float, N: Size, R: Size, W: Size>(
    sums: &mut Array<Vector<f32, R>>,
    decay: &Array<Vector<f32, N>>,
    #[comptime] decays: bool,
    weights: &Array<Vector<f32, N>>,
    source: &[Vector<E, W>],
    stream: &Stream,
    token: usize,
    start: usize,
    end: usize,
    #[comptime] dim: usize,
    #[comptime] tile: RowTile,
) {
    let dims = comptime!(tile.dims);
    let full = comptime!(dim / dims);
    #[unroll(tile.unroll)]
    for d in 0..full {
        add_dims::<E, N, R, W>(
            sums,
            decay,
            decays,
            weights,
            source,
            stream,
            token,
            start,
            end,
            d * dims,
            dims,
            tile,
        );
    }
    let rest = comptime!(dim - full * dims);
    if comptime!(rest > 0) {
        let first = comptime!(full * dims).runtime();
        add_dims::<E, N, R, W>(
            sums, decay, decays, weights, source, stream, token, start, end, first, rest, tile,
        );
    }
}

#[cube]
fn add_dims<E: Float, N: Size, R: Size, W: Size>(
    sums: &mut Array<Vector<f32, R>>,
    decay: &Array<Vector<f32, N>>,
    #[comptime] decays: bool,
    weights: &Array<Vector<f32, N>>,
    source: &[Vector<E, W>],
    stream: &Stream,
    token: usize,
    start: usize,
    end: usize,
    first: usize,
    #[comptime] dims: usize,
    #[comptime] tile: RowTile,
) {
    let width = W::value();
    let groups = comptime!(tile.groups);
    let chunks = comptime!(dims / width);
    let chunk = first / width;
    let origin = stream.origin + chunk * stream.dim_stride;
    let mut part = Sequence::<Vector<f32, R>>::new();
    if comptime!(tile.unroll) {
        #[unroll]
        for t in 0..comptime!(tile.slots()) {
            let offset = origin + min(token + t, stream.last) * stream.token_stride;
            #[unroll]
            for i in 0..chunks {
                let value = beside_row::<E, N, R, W>(source[offset + i * stream.dim_stride]);
                #[unroll]
                for g in 0..groups {
                    let slot = comptime!(i * groups + g);
                    let weight = per_lane::<N, R>(weights[t * groups + g]);
                    if comptime!(t == 0) {
                        part.push(weight * value);
                    } else {
                        part.insert(slot, fma(weight, value, part[slot]));
                    }
                }
            }
        }
    } else {
        let mut held = filled::<R>(0.0f32, comptime!(chunks * groups), true);
        for t in start..end {
            let offset = origin + (token + t) * stream.token_stride;
            #[unroll]
            for i in 0..chunks {
                let value = beside_row::<E, N, R, W>(source[offset + i * stream.dim_stride]);
                #[unroll]
                for g in 0..groups {
                    let slot = comptime!(i * groups + g);
                    let weight = per_lane::<N, R>(weights[t * groups + g]);
                    held[slot] = fma(weight, value, held[slot]);
                }
            }
        }
        #[unroll]
        for slot in 0..comptime!(chunks * groups) {
            part.push(held[slot]);
        }
    }
    #[unroll]
    for i in 0..chunks {
        #[unroll]
        for g in 0..groups {
            let sum = part[comptime!(i * groups + g)];
            let slot = (chunk + i) * groups + g;
            sums[slot] = if comptime!(decays) {
                fma(sums[slot], per_lane::<N, R>(decay[g]), sum)
            } else {
                sums[slot] + sum
            };
        }
    }
}
