//! Rows times tokens: the first product.

use cubecl::prelude::*;

use super::{
    DIMS_PER_TURN, RowTile, Stream, beside_row, chunk_chain, filled, sum_per_lane, unpacked,
};

/// `scores[(slot + t) * groups + g] = factor * rows[., g] . source[token + t]` for one register tile.
#[cube]
fn products<E: Float, N: Size, R: Size, W: Size>(
    rows: &Array<Vector<f32, R>>,
    source: &[Vector<E, W>],
    stream: &Stream,
    token: usize,
    scores: &mut Array<Vector<f32, N>>,
    slot: usize,
    factor: f32,
    #[comptime] dim: usize,
    #[comptime] tile: RowTile,
) {
    let groups = comptime!(tile.groups);
    let count = comptime!(tile.tokens);
    let width = W::value();
    let chunks = comptime!(dim / width);
    let chain_length = comptime!(chunk_chain(chunks));
    let mut offsets = Sequence::<usize>::new();
    #[unroll]
    for t in 0..count {
        offsets.push(stream.origin + min(token + t, stream.last) * stream.token_stride);
    }
    // Values, not variables: for each variable of an array, CubeCL's passes walk the whole block.
    let mut totals = Sequence::<Vector<f32, N>>::new();
    if comptime!(tile.unroll) {
        #[unroll]
        for chain in 0..comptime!(chunks.div_ceil(chain_length)) {
            let first = comptime!(chain * chain_length);
            let length = comptime!(chain_length.min(chunks - first));
            let sums = chain_sums::<E, N, R, W>(
                rows,
                source,
                stream,
                &offsets,
                first.runtime(),
                length,
                tile,
            );
            #[unroll]
            for i in 0..comptime!(count * groups) {
                if comptime!(chain == 0) {
                    totals.push(sums[i]);
                } else {
                    totals.insert(i, totals[i] + sums[i]);
                }
            }
        }
    } else {
        let mut held = filled::<N>(0.0f32, comptime!(count * groups), true);
        let chains = comptime!(chunks / chain_length);
        for chain in 0..chains {
            let first = chain * chain_length;
            let sums =
                chain_sums::<E, N, R, W>(rows, source, stream, &offsets, first, chain_length, tile);
            #[unroll]
            for i in 0..comptime!(count * groups) {
                held[i] += sums[i];
            }
        }
        let rest = comptime!(chunks - chains * chain_length);
        if comptime!(rest > 0) {
            let first = comptime!(chunks - rest).runtime();
            let sums = chain_sums::<E, N, R, W>(rows, source, stream, &offsets, first, rest, tile);
            #[unroll]
            for i in 0..comptime!(count * groups) {
                held[i] += sums[i];
            }
        }
        #[unroll]
        for i in 0..comptime!(count * groups) {
            totals.push(held[i]);
        }
    }
    #[unroll]
    for t in 0..count {
        #[unroll]
        for g in 0..groups {
            scores[(slot + t) * groups + g] =
                totals[comptime!(t * groups + g)] * Vector::new(factor);
        }
    }
}

/// The products of `length` chunks from `first` on, summed.
#[cube]
fn chain_sums<E: Float, N: Size, R: Size, W: Size>(
    rows: &Array<Vector<f32, R>>,
    source: &[Vector<E, W>],
    stream: &Stream,
    offsets: &Sequence<usize>,
    first: usize,
    #[comptime] length: usize,
    #[comptime] tile: RowTile,
) -> Sequence<Vector<f32, N>> {
    let groups = comptime!(tile.groups);
    let count = comptime!(tile.tokens);
    let mut sums = Sequence::<Vector<f32, R>>::new();
    if comptime!(tile.unroll) {
        #[unroll]
        for index in 0..length {
            let chunk = first + index;
            #[unroll]
            for t in 0..count {
                let loaded = source[offsets[t] + chunk * stream.dim_stride];
                let value = beside_row::<E, N, R, W>(loaded);
                #[unroll]
                for g in 0..groups {
                    let row = rows[chunk * groups + g];
                    let slot = comptime!(t * groups + g);
                    if comptime!(index == 0) {
                        sums.push(row * value);
                    } else {
                        sums.insert(slot, fma(row, value, sums[slot]));
                    }
                }
            }
        }
    } else {
        let mut held = filled::<R>(0.0f32, comptime!(count * groups), true);
        for step in 0..comptime!(length / DIMS_PER_TURN) {
            add_chunks::<E, N, R, W>(
                &mut held,
                rows,
                source,
                stream,
                offsets,
                first + step * DIMS_PER_TURN,
                DIMS_PER_TURN,
                tile,
            );
        }
        let rest = comptime!(length % DIMS_PER_TURN);
        if comptime!(rest > 0) {
            add_chunks::<E, N, R, W>(
                &mut held,
                rows,
                source,
                stream,
                offsets,
                first + comptime!(length - rest),
                rest,
                tile,
            );
        }
        #[unroll]
        for slot in 0..comptime!(count * groups) {
            sums.push(held[slot]);
        }
    }
    let mut found = Sequence::<Vector<f32, N>>::new();
    #[unroll]
    for i in 0..comptime!(count * groups) {
        found.push(sum_per_lane::<N, R>(sums[i]));
    }
    found
}

/// Adds the products of a few chunks.
#[cube]
fn add_chunks<E: Float, N: Size, R: Size, W: Size>(
    held: &mut Array<Vector<f32, R>>,
    rows: &Array<Vector<f32, R>>,
    source: &[Vector<E, W>],
    stream: &Stream,
    offsets: &Sequence<usize>,
    first: usize,
    #[comptime] length: usize,
    #[comptime] tile: RowTile,
) {
    let groups = comptime!(tile.groups);
    #[unroll]
    for index in 0..length {
        let chunk = first + index;
        #[unroll]
        for t in 0..comptime!(tile.tokens) {
            let value = beside_row::<E, N, R, W>(source[offsets[t] + chunk * stream.dim_stride]);
            #[unroll]
            for g in 0..groups {
                let slot = comptime!(t * groups + g);
                held[slot] = fma(rows[chunk * groups + g], value, held[slot]);
            }
        }
    }
}

/// `scores[t * groups + g] = factor * rows[., g] . source[token + t]` for a block of tokens.
///
/// The factor comes last, so that rows times tokens and tokens times rows round alike.
#[cube]
pub(crate) fn block_products<E: Float, N: Size, R: Size, W: Size>(
    rows: &Array<Vector<f32, R>>,
    source: &[Vector<E, W>],
    stream: &Stream,
    token: usize,
    scores: &mut Array<Vector<f32, N>>,
    factor: f32,
    #[comptime] dim: usize,
    #[comptime] tile: RowTile,
) {
    if comptime!(tile.unpacks) {
        let (tokens, stream) = unpacked::<E, N, W>(source, stream, token, dim, tile);
        let tokens = tokens.with_vector_size::<W>();
        let first = 0usize.runtime();
        multiply::<f32, N, R, W>(rows, tokens, &stream, first, scores, factor, dim, tile);
    } else {
        multiply::<E, N, R, W>(rows, source, stream, token, scores, factor, dim, tile);
    }
}

/// [`block_products`] with tokens as they are.
#[cube]
fn multiply<E: Float, N: Size, R: Size, W: Size>(
    rows: &Array<Vector<f32, R>>,
    source: &[Vector<E, W>],
    stream: &Stream,
    token: usize,
    scores: &mut Array<Vector<f32, N>>,
    factor: f32,
    #[comptime] dim: usize,
    #[comptime] tile: RowTile,
) {
    #[unroll(tile.unroll)]
    for step in 0..comptime!(tile.slots() / tile.tokens) {
        let slot = step * comptime!(tile.tokens);
        products::<E, N, R, W>(
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
