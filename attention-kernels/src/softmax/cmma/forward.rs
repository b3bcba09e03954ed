//! The forward walk: planes own queries and meet the keys step by step.

use cubecl::prelude::*;

use super::soften::RowSoftmax;
use crate::{
    block_map::BlockList,
    modification::{CapturedData, Code},
    softmax::{
        args::{Blueprint, Layout, ScoreTable, Sizes},
        query_walk::QueryWalk,
        rows::{key_head, own_rows, tile_index, value_head},
    },
    tile::{
        FragmentSums, PlaneTile, RowOperands, Scratch, Stream, Tokens, filled, leads_row, packed,
    },
};

/// [`attention_forward`](crate::softmax::forward) with scores in shared memory: two block barriers a
/// step, for its tokens.
#[cube(launch_unchecked, address_type = "dynamic")]
pub(crate) fn fragment_forward<E: Float, M: Numeric, N: Size, W: Size, WV: Size>(
    query: &[Vector<E, W>],
    key: &[Vector<E, W>],
    value: &[Vector<E, WV>],
    mask: ComptimeOption<ScoreTable<M>>,
    bias: ComptimeOption<ScoreTable<E>>,
    blocks: ComptimeOption<BlockList>,
    out: &mut [Vector<E, WV>],
    lse: &mut [f32],
    query_layout: Layout,
    key_layout: Layout,
    value_layout: Layout,
    sizes: Sizes,
    captured: CapturedData,
    #[comptime] code: Code,
    #[comptime] blueprint: Blueprint,
    #[comptime] tile: PlaneTile,
    #[define(E)] _dtype: ElemType,
    #[define(M)] _mask_dtype: ElemType,
) {
    let query_layout = packed(&query_layout, blueprint.packed);
    let key_layout = packed(&key_layout, blueprint.packed);
    let value_layout = packed(&value_layout, blueprint.packed);
    let own = own_rows::<N>(tile_index(blueprint), sizes.seq_q, blueprint);
    let walk = QueryWalk::<E, M, N>::new(&own, mask, bias, &captured, &sizes, code, blueprint);
    let kv_head = key_head(own.head, blueprint);
    let last = max(sizes.seq_kv, 1) - 1;
    let key_stream = Stream::of(&key_layout, own.batch, kv_head, last);
    let value_head = value_head(kv_head, blueprint);
    let value_stream = Stream::of(&value_layout, own.batch, value_head, last);
    let mut keys = Tokens::<E, W>::new(sizes.zero, blueprint.head_dim, tile);
    let mut values = Tokens::<E, WV>::new(sizes.zero, blueprint.value_dim, tile);
    let mut scratch = Scratch::<E>::new(sizes.zero, tile);
    let mut rows = RowOperands::<E>::new(blueprint.head_dim, tile);
    rows.load::<W>(
        &mut scratch,
        query,
        &query_layout,
        own.batch,
        own.head,
        own.first,
        sizes.seq_q,
    );

    let mut sums = FragmentSums::new(sizes.zero, blueprint.value_dim, tile);
    let mut softmax = RowSoftmax::new();
    let mut scores = filled::<N>(0.0f32, comptime!(tile.run()), true);

    let steps = walk.steps(&blocks, blueprint);
    if steps.count > 0 {
        keys.fetch(key, &key_stream, steps.at(0usize.runtime()).token);
    }
    for index in 0..steps.count {
        let step = steps.at(index);
        let token = step.token;
        keys.store(key, &key_stream, token);
        sync_cube();
        values.fetch(value, &value_stream, token);
        scratch.multiply::<W>(&rows, &keys);
        scratch.read::<N>(&mut scores, sizes.scale);
        walk.modify(&mut scores, token, &sizes, blueprint);
        walk.hide(&mut scores, step, &sizes, blueprint);
        let rescale = softmax.soften::<N>(&mut scores, tile, blueprint);
        scratch.announce(rescale.moved);
        walk.reweigh(&mut scores, token, &sizes, blueprint);
        scratch.write::<N>(&scores);
        values.store(value, &value_stream, token);
        sync_cube();
        if scratch.any(rescale.moved) {
            sums.scale::<E>(&mut scratch, rescale.factor);
        }
        keys.fetch(key, &key_stream, steps.token_after(index));
        sums.accumulate::<E, WV>(&scratch, &values);
    }

    let (factor, row_lse) = softmax.finish(sizes.neg_inf, tile);
    let first = (own.batch * sizes.heads + own.head) * sizes.seq_q;
    let row = own.rows[0];
    let exists = row < sizes.seq_q;
    sums.store::<E, WV>(&mut scratch, factor, out, first + row, exists);
    if exists && leads_row(tile) {
        lse[first + row] = row_lse;
    }
}
