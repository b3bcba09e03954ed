//! The gradient of the additive bias: `dB = dS`, summed over the dimensions that the bias
//! broadcasts over, always in the same order.

use cubecl::prelude::*;

use super::{
    args::{BiasGradient, Blueprint, Layouts, ScoreTable, Sizes},
    delta::{FACTOR, lane_stats},
    query_rows::QueryRows,
    query_walk::QueryWalk,
    rows::{OwnedRows, own_rows, tile_count, tile_index},
    score::weight,
};
use crate::{
    block_map::Step,
    modification::{CapturedData, Code},
    tile::filled,
    turns::turn,
};

/// Each lane owns a slot: a query, or, where the bias broadcasts over the queries, every
/// `slots`-th query, summed.
#[cube(launch_unchecked, address_type = "dynamic")]
pub(crate) fn attention_backward_bias<
    E: Float,
    M: Numeric,
    O: Float,
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
    stats: &[f32],
    mask: ComptimeOption<ScoreTable<M>>,
    bias: ScoreTable<E>,
    grad_bias: &mut [O],
    layouts: Layouts,
    sizes: Sizes,
    shape: BiasGradient,
    captured: CapturedData,
    #[comptime] code: Code,
    #[comptime] blueprint: Blueprint,
    #[define(E)] _dtype: ElemType,
    #[define(M)] _mask_dtype: ElemType,
    #[define(O)] _out_dtype: ElemType,
) {
    let layouts = layouts.packed(blueprint);
    let tile = tile_index(blueprint);
    if tile < tile_count::<N>(shape.slots, blueprint) {
        let slots = own_rows::<N>(tile, shape.slots, blueprint);
        let config = comptime!(blueprint.tile);
        let groups = comptime!(config.groups);
        let width = N::value();
        let lanes = comptime!(groups * width);
        let length = comptime!(config.block * groups);
        let mut scores = filled::<N>(0.0f32, length, config.unroll);
        let mut slopes = filled::<N>(0.0f32, length, config.unroll);
        let mut sums = filled::<N>(0.0f32, length, config.unroll);

        let batches = sizes.batch / shape.batch;
        let heads = sizes.heads / shape.heads;
        for index in 0..sizes.seq_kv.div_ceil(comptime!(config.block)) {
            let token = index * comptime!(config.block);
            if shape.keys > 1 {
                clear::<N>(&mut sums, blueprint);
            }
            for b in 0..batches {
                for h in 0..heads {
                    for round in 0..sizes.seq_q.div_ceil(shape.slots) {
                        let own = shifted(
                            &slots,
                            slots.batch + turn(b, batches),
                            slots.head + turn(h, heads),
                            round * shape.slots,
                            sizes.seq_q,
                            lanes,
                        );
                        let some_bias = ComptimeOption::Some(bias.clone());
                        let walk = QueryWalk::<E, M, N>::new(
                            &own,
                            mask.clone(),
                            some_bias,
                            &captured,
                            &sizes,
                            comptime!(code.clone()),
                            blueprint,
                        );
                        let rows = QueryRows::<N, R, RV>::load::<E, W, WV>(
                            &own, query, grad_out, stats, &layouts, &sizes, blueprint,
                        );
                        let factor = lane_stats::<N>(
                            stats,
                            &own.rows,
                            rows.first,
                            sizes.seq_q,
                            FACTOR,
                            groups,
                        );
                        rows.products::<E, E, M, W, WV>(
                            &walk,
                            key,
                            value,
                            token,
                            &sizes,
                            &mut scores,
                            &mut slopes,
                            blueprint,
                        );
                        walk.modify(&mut scores, token, &sizes, blueprint);
                        walk.hide(&mut scores, Step::tested(token), &sizes, blueprint);
                        #[unroll(config.unroll)]
                        for t in 0..comptime!(config.block) {
                            #[unroll]
                            for g in 0..groups {
                                let slot = t * groups + g;
                                sums[slot] += weight::<N>(scores[slot], rows.lse[g], blueprint)
                                    * factor[g]
                                    * slopes[slot];
                            }
                        }
                    }
                }
            }
            if shape.keys > 1 {
                write_block::<O, N>(&sums, grad_bias, &slots, token, &shape, blueprint);
            }
        }
        if shape.keys == 1 {
            fold::<N>(&mut sums, blueprint);
            write_block::<O, N>(
                &sums,
                grad_bias,
                &slots,
                0usize.runtime(),
                &shape,
                blueprint,
            );
        }
    }
}

/// The same lanes for another head, `shift` queries later.
#[cube]
fn shifted(
    slots: &OwnedRows,
    batch: usize,
    head: usize,
    shift: usize,
    length: usize,
    #[comptime] lanes: usize,
) -> OwnedRows {
    let mut rows = Array::<usize>::new(lanes);
    #[unroll]
    for slot in 0..lanes {
        rows[slot] = slots.rows[slot] + shift;
    }
    let overhangs = slots.end + shift > length;
    OwnedRows {
        batch,
        head,
        first: select(overhangs, length, slots.first + shift),
        end: min(slots.end + shift, length),
        rows,
    }
}

#[cube]
fn clear<N: Size>(sums: &mut Array<Vector<f32, N>>, #[comptime] blueprint: Blueprint) {
    let tile = comptime!(blueprint.tile);
    #[unroll(tile.unroll)]
    for slot in 0..comptime!(tile.block * tile.groups) {
        sums[slot] = Vector::new(0.0f32);
    }
}

/// Sums over the tokens of a block into its first token.
#[cube]
fn fold<N: Size>(sums: &mut Array<Vector<f32, N>>, #[comptime] blueprint: Blueprint) {
    let tile = comptime!(blueprint.tile);
    let groups = comptime!(tile.groups);
    #[unroll(tile.unroll)]
    for t in 1..comptime!(tile.block) {
        #[unroll]
        for g in 0..groups {
            sums[g] = sums[g] + sums[t * groups + g];
        }
    }
}

#[cube]
fn write_block<O: Float, N: Size>(
    sums: &Array<Vector<f32, N>>,
    grad_bias: &mut [O],
    slots: &OwnedRows,
    token: usize,
    shape: &BiasGradient,
    #[comptime] blueprint: Blueprint,
) {
    let lanes = N::value();
    let tile = comptime!(blueprint.tile);
    let groups = comptime!(tile.groups);
    let first = (slots.batch * shape.heads + slots.head) * shape.slots;
    #[unroll(tile.unroll)]
    for t in 0..comptime!(tile.block) {
        if token + t < shape.keys {
            #[unroll]
            for g in 0..groups {
                #[unroll]
                for lane in 0..lanes {
                    let slot = slots.rows[comptime!(g * lanes + lane)];
                    if slot < shape.slots {
                        let sum = sums[t * groups + g].extract(lane);
                        grad_bias[(first + slot) * shape.keys + token + t] = O::cast_from(sum);
                    }
                }
            }
        }
    }
}

/// Slots are summed over this many before they join the total, which keeps chains of roundings short.
const SLOT_CHAIN: usize = 32;

/// Sums the slots of each head: `partial [heads, slots, keys]` to `gradient [heads, keys]`, which
/// begins at `start`.
#[cube(launch_unchecked, address_type = "dynamic")]
pub(crate) fn attention_sum_slots<O: Float>(
    partial: &[f32],
    gradient: &mut [O],
    heads: usize,
    slots: usize,
    keys: usize,
    start: usize,
    #[define(O)] _dtype: ElemType,
) {
    if ABSOLUTE_POS < heads * keys {
        let first = ABSOLUTE_POS / keys * slots * keys + ABSOLUTE_POS % keys;
        let mut sum = f32::new(0.0);
        for chain in 0..slots.div_ceil(SLOT_CHAIN.runtime()) {
            let mut part = f32::new(0.0);
            for slot in chain * SLOT_CHAIN..min(chain * SLOT_CHAIN + SLOT_CHAIN, slots) {
                part += partial[first + slot * keys];
            }
            sum += part;
        }
        gradient[start + ABSOLUTE_POS] = O::cast_from(sum);
    }
}
