//! Rows times tokens: the first product.

use cubecl::prelude::*;

use super::{DIM_CHAIN, RowTile, Stream};

/// `scores[(slot + t) * groups + g] = factor * rows[., g] . source[token + t]` for one register tile.
#[cube]
fn products<E: Float, N: Size, W: Size>(
    rows: &Array<Vector<f32, N>>,
    source: &[Vector<E, W>],
    stream: &Stream,
    token: usize,
    scores: &mut Array<Vector<f32, N>>,
    slot: usize,
    factor: f32,
    #[comptime] dim: usize,
    #[comptime] tile: RowTile,
) {
    let width = W::value();
    let groups = comptime!(tile.groups);
    let count = comptime!(tile.tokens);
    let per_chain = comptime!(DIM_CHAIN / width);
    let chunks = comptime!(dim / width);
    let chains = comptime!(chunks / per_chain);
    let mut offsets = Array::<usize>::new(count);
    #[unroll]
    for t in 0..count {
        offsets[t] = stream.origin + min(token + t, stream.last) * stream.token_stride;
        #[unroll]
        for g in 0..groups {
            scores[(slot + t) * groups + g] = Vector::new(0.0f32);
        }
    }
    #[unroll(tile.unroll)]
    for chain in 0..chains {
        add_chain::<E, N, W>(
            rows,
            source,
            stream,
            &offsets,
            scores,
            slot,
            chain * per_chain,
            per_chain,
            tile,
        );
    }
    let rest = comptime!(chunks - chains * per_chain);
    if comptime!(rest > 0) {
        let first = comptime!(chains * per_chain).runtime();
        add_chain::<E, N, W>(
            rows, source, stream, &offsets, scores, slot, first, rest, tile,
        );
    }
    #[unroll]
    for t in 0..count {
        #[unroll]
        for g in 0..groups {
            scores[(slot + t) * groups + g] *= Vector::new(factor);
        }
    }
}

/// Adds the products of `length` chunks from `first` on.
#[cube]
fn add_chain<E: Float, N: Size, W: Size>(
    rows: &Array<Vector<f32, N>>,
    source: &[Vector<E, W>],
    stream: &Stream,
    offsets: &Array<usize>,
    scores: &mut Array<Vector<f32, N>>,
    slot: usize,
    first: usize,
    #[comptime] length: usize,
    #[comptime] tile: RowTile,
) {
    let width = W::value();
    let groups = comptime!(tile.groups);
    let count = comptime!(tile.tokens);
    let mut sums = Array::<Vector<f32, N>>::new(comptime!(count * groups));
    #[unroll]
    for index in 0..comptime!(count * groups) {
        sums[index] = Vector::new(0.0f32);
    }
    #[unroll(tile.unroll)]
    for index in 0..length {
        let chunk = first + index;
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
            scores[(slot + t) * groups + g] += sums[t * groups + g];
        }
    }
}

/// `scores[t * groups + g] = factor * rows[., g] . source[token + t]` for a block of tokens.
///
/// The factor comes last, so that rows times tokens and tokens times rows round alike.
#[cube]
pub(crate) fn block_products<E: Float, N: Size, W: Size>(
    rows: &Array<Vector<f32, N>>,
    source: &[Vector<E, W>],
    stream: &Stream,
    token: usize,
    scores: &mut Array<Vector<f32, N>>,
    factor: f32,
    #[comptime] dim: usize,
    #[comptime] tile: RowTile,
) {
    #[unroll(tile.unroll)]
    for step in 0..comptime!(tile.block / tile.tokens) {
        let slot = step * comptime!(tile.tokens);
        products::<E, N, W>(
            rows,
            source,
            stream,
            token + slot,
            scores,
            slot,
            factor,
            dim,
            tile,
        );
    }
}
