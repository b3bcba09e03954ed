//! Weights times tokens: the second product.

use cubecl::prelude::*;

use super::{RowTile, Stream, TOKEN_CHAIN, filled};

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
    let start = stream.origin + first / width * stream.dim_stride;
    if comptime!(tile.unroll) {
        let mut part = Array::<Vector<f32, N>>::new(comptime!(dims * groups));
        #[unroll]
        for i in 0..dims {
            #[unroll]
            for g in 0..groups {
                // A block is shorter than a chain: only where the total decays is a sum of its own
                // free.
                part[i * groups + g] = if comptime!(decays) {
                    Vector::new(0.0f32)
                } else {
                    sums[(first + i) * groups + g]
                };
            }
        }
        #[unroll]
        for t in 0..comptime!(tile.block) {
            let offset = start + min(token + t, stream.last) * stream.token_stride;
            accumulate_token::<E, N, W>(
                &mut part, weights, source, offset, stream, t, dims, groups,
            );
        }
        #[unroll]
        for i in 0..dims {
            #[unroll]
            for g in 0..groups {
                let sum = part[i * groups + g];
                sums[(first + i) * groups + g] = if comptime!(decays) {
                    fma(sums[(first + i) * groups + g], decay[g], sum)
                } else {
                    sum
                };
            }
        }
    } else {
        for chain in 0..count.div_ceil(TOKEN_CHAIN) {
            let mut part = filled::<N>(0.0f32, comptime!(dims * groups), true);
            for t in chain * TOKEN_CHAIN..min(chain * TOKEN_CHAIN + TOKEN_CHAIN, count) {
                let offset = start + (token + t) * stream.token_stride;
                accumulate_token::<E, N, W>(
                    &mut part, weights, source, offset, stream, t, dims, groups,
                );
            }
            #[unroll]
            for g in 0..groups {
                let kept = if comptime!(decays) {
                    select(chain == 0, decay[g], Vector::new(1.0f32))
                } else {
                    Vector::new(1.0f32)
                };
                #[unroll]
                for i in 0..dims {
                    let slot = (first + i) * groups + g;
                    sums[slot] = fma(sums[slot], kept, part[i * groups + g]);
                }
            }
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
