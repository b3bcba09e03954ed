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
    let dims = comptime!(tile.dims);
    let full = comptime!(dim / dims);
    #[unroll(tile.unroll)]
    for d in 0..full {
        accumulate_dims::<E, N, R, W>(
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
        accumulate_dims::<E, N, R, W>(
            sums, decay, decays, weights, source, stream, token, count, first, rest, tile,
        );
    }
}

#[cube]
fn accumulate_dims<E: Float, N: Size, R: Size, W: Size>(
    sums: &mut Array<Vector<f32, R>>,
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
    let chunks = comptime!(dims / width);
    let chunk = first / width;
    let start = stream.origin + chunk * stream.dim_stride;
    if comptime!(tile.unroll) {
        let mut part = Sequence::<Vector<f32, R>>::new();
        #[unroll]
        for t in 0..comptime!(tile.block) {
            let offset = start + min(token + t, stream.last) * stream.token_stride;
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
    } else {
        for chain in 0..count.div_ceil(TOKEN_CHAIN) {
            let mut part = filled::<R>(0.0f32, comptime!(chunks * groups), true);
            for t in chain * TOKEN_CHAIN..min(chain * TOKEN_CHAIN + TOKEN_CHAIN, count) {
                let offset = start + (token + t) * stream.token_stride;
                accumulate_token::<E, N, R, W>(
                    &mut part, weights, source, offset, stream, t, chunks, groups,
                );
            }
            #[unroll]
            for g in 0..groups {
                let kept = if comptime!(decays) {
                    select(chain == 0, decay[g], Vector::new(1.0f32))
                } else {
                    Vector::new(1.0f32)
                };
                let kept = per_lane::<N, R>(kept);
                #[unroll]
                for i in 0..chunks {
                    let slot = (chunk + i) * groups + g;
                    sums[slot] = fma(sums[slot], kept, part[i * groups + g]);
                }
            }
        }
    }
}

/// Adds a token's products.
#[cube]
fn accumulate_token<E: Float, N: Size, R: Size, W: Size>(
    part: &mut Array<Vector<f32, R>>,
    weights: &Array<Vector<f32, N>>,
    source: &[Vector<E, W>],
    offset: usize,
    stream: &Stream,
    t: usize,
    #[comptime] chunks: usize,
    #[comptime] groups: usize,
) {
    #[unroll]
    for i in 0..chunks {
        let loaded = source[offset + i * stream.dim_stride];
        let value = beside_row::<E, N, R, W>(loaded);
        #[unroll]
        for g in 0..groups {
            let slot = comptime!(i * groups + g);
            let weight = per_lane::<N, R>(weights[t * groups + g]);
            part[slot] = fma(weight, value, part[slot]);
        }
    }
}
