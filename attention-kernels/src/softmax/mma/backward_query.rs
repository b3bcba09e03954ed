//! The query walk of the backward: lanes share queries and gather their gradients from the keys.

use cubecl::prelude::*;

use super::soften::{Scores, Weights, score_factor};
use crate::{
    block_map::BlockList,
    modification::{CapturedData, Code},
    softmax::{
        args::{Blueprint, Layouts, ScoreTable, Sizes},
        delta::{DELTA, FACTOR, GRAD_LSE, LSE, STATS, lane_stats},
        query_walk::QueryWalk,
        rows::{key_head, own_rows, tile_index, value_head},
    },
    tile::{
        Arrival, Aside, Reads, Rows, Staged, Stream, Sums, Together, Tracks, as_laid_out, filled,
        matrix_accumulate, matrix_products, row_total, set_aside, store_sums, sync_tokens,
        writes_row,
    },
};

/// [`attention_backward_query`](crate::softmax::backward_query) with tokens in shared memory: two
/// barriers a step, one where tokens are copied. `lone`: there is one key. `alike`: keys and values
/// lie alike.
#[cube(launch_unchecked, address_type = "dynamic")]
pub(crate) fn matrix_backward_query<
    T: Float,
    E: Float,
    M: Numeric,
    N: Size,
    W: Size,
    WV: Size,
    P: Size,
    PV: Size,
    O: Size,
    R: Size,
    C: Size,
>(
    query: &[Vector<E, P>],
    key: &[Vector<E, W>],
    value: &[Vector<E, WV>],
    grad_out: &[Vector<E, PV>],
    mut stats: Box<[f32]>,
    mask: ComptimeOption<ScoreTable<M>>,
    bias: ComptimeOption<ScoreTable<T>>,
    blocks: ComptimeOption<BlockList>,
    grad_query: &mut [Vector<T, O>],
    layouts: Layouts,
    sizes: Sizes,
    captured: CapturedData,
    #[comptime] code: Code,
    #[comptime] blueprint: Blueprint,
    #[comptime] kind: Scores,
    #[comptime] lone: bool,
    #[comptime] alike: bool,
    #[comptime] until_aside: Option<usize>,
    #[define(T)] _dtype: ElemType,
    #[define(E)] _operand_dtype: ElemType,
    #[define(M)] _mask_dtype: ElemType,
) {
    let layouts = layouts.packed(blueprint);
    let tile = as_laid_out(blueprint.tile);
    let blueprint = comptime!(Blueprint { tile, ..blueprint });
    let groups = comptime!(tile.groups);
    let slots = comptime!(tile.slots());
    let units = comptime!(blueprint.units);
    let own = own_rows::<N>(tile_index(blueprint), sizes.seq_q, blueprint);
    let bends = comptime!(blueprint.softcap || code.bends());
    let walk = QueryWalk::<T, M, N>::new(&own, mask, bias, &captured, &sizes, code, blueprint);
    let mut queries = Rows::<E, R>::new(comptime!(tile.held(blueprint.head_dim)), units, tile);
    queries.load::<P>(
        query,
        &layouts.query,
        own.batch,
        own.head,
        &own.rows,
        sizes.seq_q,
    );
    let mut grads = Rows::<E, R>::new(comptime!(tile.held(blueprint.value_dim)), units, tile);
    grads.load::<PV>(
        grad_out,
        &layouts.grad_out,
        own.batch,
        own.head,
        &own.rows,
        sizes.seq_q,
    );
    let first = (own.batch * sizes.heads + own.head) * sizes.seq_q;
    let lse = lane_stats::<N>(&stats, &own.rows, first, sizes.seq_q, LSE, groups);
    let delta = lane_stats::<N>(&stats, &own.rows, first, sizes.seq_q, DELTA, groups);

    let kv_head = key_head(own.head, blueprint);
    let last = max(sizes.seq_kv, 1) - 1;
    let (key_width, value_width) = (W::value(), WV::value());
    let arrival = comptime!(Arrival::new(
        tile.spread,
        [key_width, value_width],
        Arrival::CopiedBeside
    ));
    let mut tracks = Tracks::new::<W, WV>(
        Stream::of(&layouts.key, own.batch, kv_head, last),
        Stream::of(
            &layouts.value,
            own.batch,
            value_head(kv_head, blueprint),
            last,
        ),
        sizes.zero,
        comptime!([blueprint.head_dim, blueprint.value_dim].map(|dim| tile.held(dim))),
        units,
        tile,
        comptime!(Together {
            follows: blueprint.blocks.is_none(),
            alike,
            held: arrival != Arrival::Stored,
        }),
    );
    let mut keys = Staged::<E, W>::new(
        comptime!(tile.held(blueprint.head_dim)),
        units,
        tile,
        comptime!(Reads::both()),
        arrival,
    );
    let mut values = Staged::<E, WV>::new(
        comptime!(tile.held(blueprint.value_dim)),
        units,
        tile,
        comptime!(Reads::products()),
        arrival,
    );

    let layout = comptime!(Sums {
        dim: blueprint.head_dim,
        counts: false,
    });
    let mut sums = filled::<C>(0.0f32, comptime!(layout.length(tile)), true);
    let mut excess = filled::<N>(0.0f32, groups, true);
    // Rounding to 16 bits is a larger error than that of the log-sum-exp.
    let corrects = comptime!(tile.terms > 1);
    let mut total = filled::<N>(0.0f32, groups, true);
    let mut scores = filled::<N>(0.0f32, comptime!(slots * groups), true);
    let mut slopes = filled::<N>(0.0f32, comptime!(slots * groups), true);
    let factor = score_factor(sizes.scale, kind);
    let softened = Weights::new(sizes.scale, kind, tile);

    let mut aside = Aside::<N>::new(groups, until_aside);
    let steps = walk.steps(&blocks, blueprint);
    if steps.count > 0 {
        let place = 0usize.runtime();
        tracks.seek(steps.at(0usize.runtime()).token);
        tracks.fetch_first::<E, W>(&mut keys, key, place);
        tracks.fetch_second::<E, WV>(&mut values, value, place);
    }
    for index in 0..steps.count {
        let step = steps.at(index);
        let token = step.token;
        if comptime!(arrival == Arrival::Stored) {
            sync_cube();
        }
        keys.store();
        values.store();
        sync_tokens(arrival);
        let (place, other) = (index % 2, (index + 1) % 2);
        keys.turn(place);
        values.turn(place);
        tracks.advance(steps.token_after(index));
        // Where registers are short, what comes next is fetched when the products need none.
        let late = comptime!(tile.lent && arrival == Arrival::Stored);
        if comptime!(!late) {
            tracks.fetch_first::<E, W>(&mut keys, key, other);
            tracks.fetch_second::<E, WV>(&mut values, value, other);
        }
        matrix_products::<E, N, R, C, W>(
            &queries,
            &keys,
            &mut scores,
            factor,
            blueprint.head_dim,
            true,
            tile,
        );
        // Before the next product, where nothing else comes first: operands that are loaded ahead of a branch
        // fill the registers on its other side.
        if comptime!(kind == Scores::Products) {
            walk.hide(&mut scores, step, &sizes, blueprint);
        }
        matrix_products::<E, N, R, C, WV>(
            &grads,
            &values,
            &mut slopes,
            f32::new(1.0),
            blueprint.value_dim,
            true,
            tile,
        );
        walk.reweigh(&mut slopes, token, &sizes, blueprint);
        #[unroll]
        for slot in 0..slots {
            #[unroll]
            for g in 0..groups {
                slopes[slot * groups + g] -= delta[g];
            }
        }
        walk.modify_with_slope(&mut scores, &mut slopes, token, &sizes, blueprint);
        if comptime!(kind != Scores::Products) {
            walk.hide(&mut scores, steps.at(index), &sizes, blueprint);
        }
        #[unroll]
        for g in 0..groups {
            let shift = softened.shift(lse[g].extract(0usize));
            let mut step_total = Vector::<f32, N>::new(0.0f32);
            let mut step_excess = Vector::<f32, N>::new(0.0f32);
            #[unroll]
            for slot in 0..slots {
                let at = slot * groups + g;
                let weight = softened.of(scores[at].extract(0usize), shift);
                slopes[at] *= Vector::new(weight);
                if comptime!(corrects) {
                    step_total += Vector::new(weight);
                    step_excess += slopes[at];
                } else {
                    excess[g] += slopes[at];
                }
                // It takes what the gradients of a row sum up to, without the rounding of two products that cancel.
                if comptime!(lone && !bends) {
                    let grad_lse =
                        lane_stats::<N>(&stats, &own.rows, first, sizes.seq_q, GRAD_LSE, groups);
                    slopes[at] = grad_lse[g] * Vector::new(weight);
                }
            }
            if comptime!(corrects) {
                total[g] += step_total;
                excess[g] += step_excess;
            }
        }
        if comptime!(late) {
            tracks.fetch_first::<E, W>(&mut keys, key, other);
            tracks.fetch_second::<E, WV>(&mut values, value, other);
        }
        matrix_accumulate::<E, N, R, C, W>(&mut sums, &slopes, &keys, layout, tile);
        set_aside::<T, N, C, O>(
            &mut aside,
            &mut sums,
            grad_query,
            &own.rows,
            first,
            sizes.seq_q,
            layout,
            tile,
        );
    }

    let mut scales = Array::<Vector<f32, N>>::new(groups);
    let grad_lse = lane_stats::<N>(&stats, &own.rows, first, sizes.seq_q, GRAD_LSE, groups);
    #[unroll]
    for g in 0..groups {
        scales[g] = Vector::new(sizes.scale);
        let row = own.rows[g];
        let writes = writes_row(tile.spread) && row < sizes.seq_q;
        let mut factor = f32::new(1.0);
        if comptime!(corrects) {
            let total = row_total(total[g].extract(0usize), tile.spread);
            factor /= select(total == 0.0, 1.0, total);
            scales[g] *= Vector::new(factor);
            if writes {
                stats[(first + row) * STATS + FACTOR] = factor;
            }
        }
        // Softcapped or bent, the gradients that are summed here are not those of the scores.
        if comptime!(!bends) {
            let missing = row_total(excess[g].extract(0usize), tile.spread) * factor;
            let corrected = delta[g].extract(0usize) + (missing - grad_lse[g].extract(0usize));
            if writes {
                stats[(first + row) * STATS + DELTA] = corrected;
            }
        }
    }
    store_sums::<T, N, C, O>(
        &sums,
        &scales,
        grad_query,
        &own.rows,
        first,
        sizes.seq_q,
        &aside,
        layout,
        tile,
    );
}
