//! The query walk of the backward: each lane owns a query and gathers its gradient from the keys.
//!
//! ```text
//! dS = P * (dO V^T - delta),    dQ = scale * (dS * softcap') K
//! ```

use cubecl::prelude::*;

use super::{
    args::{Blueprint, Claims, Layouts, ScoreTable, Sizes},
    delta::{DELTA, FACTOR, GRAD_LSE, STATS, lane_stats},
    query_rows::QueryRows,
    query_walk::QueryWalk,
    rows::{is_claimed, own_rows, remaining, tile_count, tile_index},
    score::weight,
    step_sum::StepSum,
};
use crate::{
    block_map::BlockList,
    modification::{CapturedData, Code},
    tile::{Aside, accumulate, filled, store_rows},
};

#[cube(launch_unchecked, address_type = "dynamic")]
pub(crate) fn attention_backward_query<
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
    blocks: ComptimeOption<BlockList>,
    claims: ComptimeOption<Claims>,
    grad_query: &mut [Vector<T, W>],
    layouts: Layouts,
    sizes: Sizes,
    captured: CapturedData,
    #[comptime] code: Code,
    #[comptime] blueprint: Blueprint,
    #[comptime] until_aside: Option<usize>,
    #[define(T)] _dtype: ElemType,
    #[define(E)] _operand_dtype: ElemType,
    #[define(M)] _mask_dtype: ElemType,
) {
    let layouts = layouts.packed(blueprint);
    let tile = tile_index(blueprint);
    if is_claimed(&claims) && tile < tile_count::<N>(sizes.seq_q, blueprint) {
        let own = own_rows::<N>(tile, sizes.seq_q, blueprint);
        let walk = QueryWalk::<T, M, N>::new(
            &own,
            mask,
            bias,
            &captured,
            &sizes,
            comptime!(code.clone()),
            blueprint,
        );
        let config = comptime!(blueprint.tile);
        let groups = comptime!(config.groups);
        let head_width = W::value();
        let lanes = N::value();
        let rows = QueryRows::<N, R, RV>::load::<E, W, WV>(
            &own, query, grad_out, &stats, &layouts, &sizes, blueprint,
        );

        let mut sums = filled::<R>(
            0.0f32,
            comptime!(blueprint.head_dim / head_width * groups),
            config.unroll,
        );
        let ones = filled::<N>(1.0f32, groups, true);
        let mut total = StepSum::<N>::new(groups);
        let mut excess = StepSum::<N>::new(groups);
        let mut scores = filled::<N>(0.0f32, comptime!(config.block * groups), config.unroll);
        let mut slopes = filled::<N>(0.0f32, comptime!(config.block * groups), config.unroll);

        let mut aside = Aside::<N>::new(groups, until_aside);
        let steps = walk.steps(&blocks, blueprint);
        for index in 0..steps.count {
            let step = steps.at(index);
            let token = step.token;
            rows.products::<T, E, M, W, WV>(
                &walk,
                key,
                value,
                token,
                &sizes,
                &mut scores,
                &mut slopes,
                blueprint,
            );
            walk.modify_with_slope(&mut scores, &mut slopes, token, &sizes, blueprint);
            walk.hide(&mut scores, step, &sizes, blueprint);
            let mut step_total = filled::<N>(0.0f32, groups, true);
            let mut step_excess = filled::<N>(0.0f32, groups, true);
            #[unroll(config.unroll)]
            for t in 0..comptime!(config.block) {
                #[unroll]
                for g in 0..groups {
                    let slot = t * groups + g;
                    let weight = weight::<N>(scores[slot], rows.lse[g], blueprint);
                    step_total[g] += weight;
                    slopes[slot] *= weight;
                    step_excess[g] += slopes[slot];
                }
            }
            total.add(&step_total, index);
            excess.add(&step_excess, index);
            accumulate::<E, N, R, W>(
                &mut sums,
                &ones,
                false,
                &slopes,
                key,
                &rows.keys.again(sizes.zero),
                token,
                remaining(token, walk.end, config),
                blueprint.head_dim,
                config,
            );
            aside.step::<T, R, W>(
                &mut sums,
                grad_query,
                &own.rows,
                rows.first,
                sizes.seq_q,
                blueprint.head_dim,
                config,
            );
        }
        let grad_lse =
            lane_stats::<N>(&stats, &own.rows, rows.first, sizes.seq_q, GRAD_LSE, groups);
        let mut scales = Array::<Vector<f32, N>>::new(groups);
        let mut factors = Array::<Vector<f32, N>>::new(groups);
        let mut deltas = Array::<Vector<f32, N>>::new(groups);
        #[unroll]
        for g in 0..groups {
            let total = total.of(g);
            let empty = total.equal(&Vector::new(0.0f32));
            let factor = Vector::new(1.0f32) / select_many(empty, Vector::new(1.0f32), total);
            scales[g] = factor * Vector::new(sizes.scale);
            factors[g] = factor;
            deltas[g] = rows.delta[g] + (excess.of(g) * factor - grad_lse[g]);
        }
        let factors = factors.with_vector_size::<Const<1>>();
        let deltas = deltas.with_vector_size::<Const<1>>();
        #[unroll(lanes == 1)]
        for slot in 0..comptime!(groups * lanes) {
            let row = own.rows[slot];
            if row < sizes.seq_q {
                let start = (rows.first + row) * STATS;
                stats[start + FACTOR] = factors[slot].extract(0usize);
                // Softcapped or bent, the gradients that are summed here are not those of the
                // scores.
                if comptime!(!(blueprint.softcap || code.bends())) {
                    stats[start + DELTA] = deltas[slot].extract(0usize);
                }
            }
        }
        store_rows::<T, N, R, W>(
            &sums,
            &scales,
            grad_query,
            &own.rows,
            rows.first,
            sizes.seq_q,
            &aside,
            blueprint.head_dim,
            config,
        );
    }
}
