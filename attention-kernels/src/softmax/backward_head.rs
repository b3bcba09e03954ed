//! All gradients in one walk, where units are cores: a core has a head of values, and every head of keys and
//! queries that goes with it.
//!
//! Two walks multiply seven times, for each needs scores and gradients of probabilities. Here a tile of queries
//! keeps them, in the second-level cache, until what corrects them is known; then the keys' and values'
//! gradients take what the tile adds to them. Five products, `P^T dO` and `dS^T Q` with lanes along the dimensions.

use cubecl::prelude::*;

use super::{
    args::{Blueprint, Claims, Layout, Layouts, ScoreTable, Sizes},
    query_gradients::{Kept, walk_queries},
    query_walk::QueryWalk,
    rows::{is_claimed, remaining, tile_count, tile_of},
};
use crate::{
    modification::{CapturedData, Code},
    tile::{RowTile, filled},
};

#[cube(launch_unchecked, address_type = "dynamic")]
pub(crate) fn attention_backward_head<
    T: Float,
    E: Float,
    M: Numeric,
    N: Size,
    W: Size,
    WV: Size,
    R: Size,
    RV: Size,
>(
    query: &[Vector<E, W>],
    key: &[Vector<E, W>],
    value: &[Vector<E, WV>],
    grad_out: &[Vector<E, WV>],
    mut stats: Box<[f32]>,
    mask: ComptimeOption<ScoreTable<M>>,
    bias: ComptimeOption<ScoreTable<T>>,
    claims: ComptimeOption<Claims>,
    mut kept: Box<[Vector<f32, N>]>,
    grad_query: &mut [Vector<T, W>],
    grad_key: &mut [Vector<f32, N>],
    grad_value: &mut [Vector<f32, N>],
    layouts: Layouts,
    sizes: Sizes,
    slots: usize,
    captured: CapturedData,
    #[comptime] code: Code,
    #[comptime] blueprint: Blueprint,
    #[comptime] until_aside: Option<usize>,
    #[define(T)] _dtype: ElemType,
    #[define(E)] _operand_dtype: ElemType,
    #[define(M)] _mask_dtype: ElemType,
) {
    let layouts = layouts.packed(blueprint);
    if is_claimed(&claims, blueprint) {
        let config = comptime!(blueprint.tile);
        let groups = comptime!(config.groups);
        let lanes = N::value();
        let batch = CUBE_POS_Z as usize;
        let value_head = CUBE_POS_Y as usize;
        let key_heads = comptime!(blueprint.value_group);
        let members = comptime!(blueprint.group * key_heads);
        let value_heads = sizes.heads / members;
        let first_value = (batch * value_heads + value_head) * sizes.seq_kv;
        clear::<N>(
            grad_value,
            first_value,
            sizes.seq_kv,
            comptime!(blueprint.value_dim / lanes),
        );
        clear::<N>(
            grad_key,
            first_value * key_heads,
            sizes.seq_kv * key_heads,
            comptime!(blueprint.head_dim / lanes),
        );
        // Where the numbers of tiles lie: weights, then gradients of scores. The CPU runtime has a task for each unit, which
        // runs all cubes one after the other: nobody else writes here meanwhile.
        let place_of_core = UNIT_POS as usize * comptime!(2 * TILES) * slots;
        let tiles = tile_count::<N>(sizes.seq_q, blueprint);
        let mut ends = Array::<usize>::new(TILES);
        let mut firsts = Array::<usize>::new(TILES);
        let mut lengths = Array::<usize>::new(TILES);
        let mut corrections = Array::<Vector<f32, N>>::new(comptime!(TILES * groups));
        let mut surpluses = Array::<Vector<f32, N>>::new(comptime!(TILES * groups));

        for member in 0..members {
            let head = value_head * members + member;
            let first_key = first_value * key_heads + member / blueprint.group * sizes.seq_kv;
            for pack in 0..tiles.div_ceil(TILES) {
                let present = min(tiles - pack * TILES, TILES);
                for nth in 0..present {
                    let tile = pack * TILES + nth;
                    let weights_at = place_of_core + nth * 2 * slots;
                    let own = tile_of::<N>(batch, head, tile, sizes.seq_q, blueprint);
                    let walk = QueryWalk::<T, M, N>::new(
                        &own,
                        mask.clone(),
                        bias.clone(),
                        &captured,
                        &sizes,
                        comptime!(code.clone()),
                        blueprint,
                    );
                    let mut places = ComptimeOption::new_Some(Kept::<N> {
                        data: kept.clone(),
                        weights: weights_at,
                        slopes: weights_at + slots,
                    });
                    let found = walk_queries::<T, E, M, N, W, WV, R, RV>(
                        &own,
                        &walk,
                        query,
                        key,
                        value,
                        grad_out,
                        &mut stats,
                        &ComptimeOption::new_None(),
                        &mut places,
                        grad_query,
                        &layouts,
                        &sizes,
                        comptime!(code.clone()),
                        blueprint,
                        until_aside,
                    );
                    #[unroll]
                    for g in 0..groups {
                        corrections[nth * groups + g] = found.factors[g];
                        surpluses[nth * groups + g] = found.surpluses[g];
                    }
                    ends[nth] = walk.end;
                    firsts[nth] = own.first;
                    lengths[nth] = own.end - own.first;
                }
                for index in 0..sizes.seq_kv.div_ceil(comptime!(config.block)) {
                    let token = index * comptime!(config.block);
                    for nth in 0..present {
                        if token < ends[nth] {
                            let weights_at = place_of_core + nth * 2 * slots + token * groups;
                            #[unroll]
                            for g in 0..groups {
                                correct::<N>(
                                    &mut kept,
                                    weights_at + g,
                                    slots,
                                    corrections[nth * groups + g],
                                    surpluses[nth * groups + g],
                                    sizes.scale,
                                    config,
                                );
                            }
                            let count = remaining(token, ends[nth], config);
                            add_tile::<E, N, WV>(
                                grad_value,
                                first_value + token,
                                &kept,
                                weights_at,
                                grad_out,
                                &layouts.grad_out,
                                batch * layouts.grad_out.batch + head * layouts.grad_out.head,
                                firsts[nth],
                                lengths[nth],
                                count,
                                blueprint.value_dim,
                                config,
                            );
                            add_tile::<E, N, W>(
                                grad_key,
                                first_key + token,
                                &kept,
                                weights_at + slots,
                                query,
                                &layouts.query,
                                batch * layouts.query.batch + head * layouts.query.head,
                                firsts[nth],
                                lengths[nth],
                                count,
                                blueprint.head_dim,
                                config,
                            );
                        }
                    }
                }
            }
        }
    }
}

/// A step's weights and gradients of scores, by what the walk found out of their rows.
#[cube]
fn correct<N: Size>(
    kept: &mut [Vector<f32, N>],
    weights_at: usize,
    slots: usize,
    factor: Vector<f32, N>,
    surplus: Vector<f32, N>,
    scale: f32,
    #[comptime] tile: RowTile,
) {
    for t in 0..comptime!(tile.block) {
        let at = weights_at + t * tile.groups;
        let weight = kept[at] * factor;
        let slope = kept[at + slots] * factor;
        kept[at] = weight;
        kept[at + slots] = (slope - weight * surplus) * Vector::new(scale);
    }
}

/// Zeros in `count` rows from `first` on.
#[cube]
fn clear<N: Size>(
    target: &mut [Vector<f32, N>],
    first: usize,
    count: usize,
    #[comptime] vectors: usize,
) {
    for at in 0..count * vectors {
        target[first * vectors + at] = Vector::new(0.0f32);
    }
}

/// Tiles of queries whose gradients the keys take together, so that these are read and written less often.
pub(crate) const TILES: usize = 2;

/// Keys whose sums registers hold.
const KEYS: usize = 4;

/// Vectors of a row that are summed at once for each of them: as many as divide it and leave registers for what is
/// read. Processors with vectors of 16 have 32 registers, the others 16.
pub(crate) fn vectors_at_once(vectors: usize, lanes: usize) -> usize {
    let most = if lanes < 16 { 3 } else { 5 };
    (1..=most)
        .rev()
        .find(|&count| vectors.is_multiple_of(count))
        .unwrap_or(1)
}

/// `target[first + token] += sum(kept[token, row] * source[row])` over the rows of a tile, for `count` tokens.
#[cube]
fn add_tile<E: Float, N: Size, W: Size>(
    target: &mut [Vector<f32, N>],
    first: usize,
    kept: &[Vector<f32, N>],
    kept_at: usize,
    source: &[Vector<E, W>],
    layout: &Layout,
    origin: usize,
    first_row: usize,
    rows: usize,
    count: usize,
    #[comptime] dim: usize,
    #[comptime] tile: RowTile,
) {
    let lanes = N::value();
    let width = W::value();
    let vectors = comptime!(dim / lanes);
    let at_once = comptime!(vectors_at_once(vectors, lanes));
    let per_token = comptime!(tile.groups * lanes);
    let kept = kept.with_vector_size::<Const<1>>();
    let source = source.with_vector_size::<N>();
    let row_stride = layout.seq * width / lanes;
    let begin = origin * width / lanes + first_row * row_stride;
    for part in 0..comptime!(vectors / at_once) {
        let vector = part * at_once;
        for block in 0..count.div_ceil(KEYS) {
            let mut sums = filled::<N>(0.0f32, comptime!(KEYS * at_once), true);
            let from = kept_at * lanes + block * comptime!(KEYS * per_token);
            for row in 0..rows {
                let at = begin + row * row_stride + vector;
                #[unroll]
                for k in 0..KEYS {
                    let weight = kept[from + comptime!(k * per_token) + row].extract(0usize);
                    #[unroll]
                    for v in 0..at_once {
                        let slot = comptime!(k * at_once + v);
                        let read = Vector::<f32, N>::cast_from(source[at + v]);
                        sums[slot] = fma(Vector::new(weight), read, sums[slot]);
                    }
                }
            }
            #[unroll]
            for k in 0..KEYS {
                let position = block * KEYS + k;
                if position < count {
                    let at = (first + position) * vectors + vector;
                    #[unroll]
                    for v in 0..at_once {
                        target[at + v] += sums[comptime!(k * at_once + v)];
                    }
                }
            }
        }
    }
}
