//! The query walk of the backward: planes own queries and gather their gradients from the keys.

use cubecl::prelude::*;

use crate::{
    block_map::BlockList,
    modification::{CapturedData, Code},
    softmax::{
        args::{Blueprint, Layouts, ScoreTable, Sizes},
        delta::{DELTA, GRAD_LSE, LSE, STATS, lane_stats},
        query_walk::QueryWalk,
        rows::{key_head, own_rows, tile_index, value_head},
        score::weight,
    },
    tile::{
        FragmentSums, PlaneTile, RowOperands, Scratch, Stream, Tokens, filled, leads_row, run_total,
    },
};

/// [`attention_backward_query`](crate::softmax::backward_query) with scores in shared memory: two
/// block barriers a step, for its tokens.
#[cube(launch_unchecked, address_type = "dynamic")]
pub(crate) fn fragment_backward_query<E: Float, M: Numeric, N: Size, W: Size, WV: Size>(
    query: &[Vector<E, W>],
    key: &[Vector<E, W>],
    value: &[Vector<E, WV>],
    grad_out: &[Vector<E, WV>],
    mut stats: Box<[f32]>,
    mask: ComptimeOption<ScoreTable<M>>,
    bias: ComptimeOption<ScoreTable<E>>,
    blocks: ComptimeOption<BlockList>,
    grad_query: &mut [Vector<E, W>],
    layouts: Layouts,
    sizes: Sizes,
    captured: CapturedData,
    #[comptime] code: Code,
    #[comptime] blueprint: Blueprint,
    #[comptime] tile: PlaneTile,
    #[define(E)] _dtype: ElemType,
    #[define(M)] _mask_dtype: ElemType,
) {
    let layouts = layouts.packed(blueprint);
    let own = own_rows::<N>(tile_index(blueprint), sizes.seq_q, blueprint);
    let bends = comptime!(blueprint.softcap || code.bends());
    let walk = QueryWalk::<E, M, N>::new(&own, mask, bias, &captured, &sizes, code, blueprint);
    let kv_head = key_head(own.head, blueprint);
    let last = max(sizes.seq_kv, 1) - 1;
    let key_stream = Stream::of(&layouts.key, own.batch, kv_head, last);
    let value_head = value_head(kv_head, blueprint);
    let value_stream = Stream::of(&layouts.value, own.batch, value_head, last);
    let mut keys = Tokens::<E, W>::new(sizes.zero, blueprint.head_dim, tile);
    let mut values = Tokens::<E, WV>::new(sizes.zero, blueprint.value_dim, tile);
    let mut scratch = Scratch::<E>::new(sizes.zero, tile);
    let mut queries = RowOperands::<E>::new(blueprint.head_dim, tile);
    queries.load::<W>(
        &mut scratch,
        query,
        &layouts.query,
        own.batch,
        own.head,
        own.first,
        sizes.seq_q,
    );
    let mut grads = RowOperands::<E>::new(blueprint.value_dim, tile);
    grads.load::<WV>(
        &mut scratch,
        grad_out,
        &layouts.grad_out,
        own.batch,
        own.head,
        own.first,
        sizes.seq_q,
    );
    let first = (own.batch * sizes.heads + own.head) * sizes.seq_q;
    let lse = lane_stats::<N>(&stats, &own.rows, first, sizes.seq_q, LSE, 1usize);
    let delta = lane_stats::<N>(&stats, &own.rows, first, sizes.seq_q, DELTA, 1usize);
    let grad_lse = lane_stats::<N>(&stats, &own.rows, first, sizes.seq_q, GRAD_LSE, 1usize);

    let slots = comptime!(tile.run());
    let mut sums = FragmentSums::new(sizes.zero, blueprint.head_dim, tile);
    let mut excess = f32::new(0.0);
    let mut scores = filled::<N>(0.0f32, slots, true);
    let mut slopes = filled::<N>(0.0f32, slots, true);

    let steps = walk.steps(&blocks, blueprint);
    if steps.count > 0 {
        let token = steps.at(0usize.runtime()).token;
        keys.fetch(key, &key_stream, token);
        values.fetch(value, &value_stream, token);
    }
    for index in 0..steps.count {
        let step = steps.at(index);
        let token = step.token;
        sync_cube();
        keys.store(key, &key_stream, token);
        values.store(value, &value_stream, token);
        sync_cube();
        let next = steps.token_after(index);
        keys.fetch(key, &key_stream, next);
        values.fetch(value, &value_stream, next);
        scratch.multiply::<W>(&queries, &keys);
        scratch.read::<N>(&mut scores, sizes.scale);
        sync_plane();
        scratch.multiply::<WV>(&grads, &values);
        scratch.read::<N>(&mut slopes, f32::new(1.0));
        walk.reweigh(&mut slopes, token, &sizes, blueprint);
        #[unroll]
        for slot in 0..slots {
            slopes[slot] -= delta[0];
        }
        walk.modify_with_slope(&mut scores, &mut slopes, token, &sizes, blueprint);
        walk.hide(&mut scores, step, &sizes, blueprint);
        #[unroll]
        for slot in 0..slots {
            let weight = weight::<N>(scores[slot], lse[0], blueprint);
            slopes[slot] *= weight;
            excess += slopes[slot].extract(0usize);
            // A key that has all the weight takes what the gradients of a row sum up to, without the
            // rounding of two products that cancel.
            if comptime!(!bends) {
                let alone = weight.equal(&Vector::new(1.0f32));
                slopes[slot] = select_many(alone, grad_lse[0], slopes[slot]);
            }
        }
        scratch.write::<N>(&slopes);
        sync_plane();
        sums.accumulate::<E, W>(&scratch, &keys);
    }

    let row = own.rows[0];
    let exists = row < sizes.seq_q;
    // Softcapped or bent, the gradients that are summed here are not those of the scores.
    if comptime!(!bends) {
        let missing = run_total(excess, tile);
        let corrected = delta[0].extract(0usize) + (missing - grad_lse[0].extract(0usize));
        if exists && leads_row(tile) {
            stats[(first + row) * STATS + DELTA] = corrected;
        }
    }
    sums.store::<E, W>(&mut scratch, sizes.scale, grad_query, first + row, exists);
}
