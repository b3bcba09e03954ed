//! The gradient of a tile of queries, and what the walk over their keys finds out for the other gradients.

use cubecl::prelude::*;

use super::{
    args::{Blueprint, Layouts, Sizes},
    delta::{DELTA, FACTOR, GRAD_LSE, STATS, lane_stats},
    query_rows::QueryRows,
    query_walk::QueryWalk,
    rows::{OwnedRows, remaining},
    score::weight,
    step_sum::StepSum,
};
use crate::{
    block_map::BlockList,
    modification::Code,
    tile::{Aside, accumulate, filled, store_rows},
};

/// Memory for a tile's numbers, token by token as the walk meets them.
#[derive(CubeType)]
pub(crate) struct Kept<N: Size> {
    pub data: Box<[Vector<f32, N>]>,
    /// Where the weights begin, and where the gradients of the scores do, neither of them corrected.
    pub weights: usize,
    pub slopes: usize,
}

/// What corrects them, for each row.
#[derive(CubeType)]
pub(crate) struct Corrections<N: Size> {
    /// `1 / sum(P)`.
    pub factors: Array<Vector<f32, N>>,
    /// `sum(dS) - dLSE`, what `delta` lacks, where that is known.
    pub surpluses: Array<Vector<f32, N>>,
}

/// Walks over the keys, writes the gradient of the queries and corrects their statistics.
#[cube]
pub(crate) fn walk_queries<
    T: Float,
    E: Float,
    M: Numeric,
    N: Size,
    W: Size,
    WV: Size,
    R: Size,
    RV: Size,
>(
    own: &OwnedRows,
    walk: &QueryWalk<T, M, N>,
    query: &[Vector<E, W>],
    key: &[Vector<E, W>],
    value: &[Vector<E, WV>],
    grad_out: &[Vector<E, WV>],
    stats: &mut [f32],
    blocks: &ComptimeOption<BlockList>,
    kept: &mut ComptimeOption<Kept<N>>,
    grad_query: &mut [Vector<T, W>],
    layouts: &Layouts,
    sizes: &Sizes,
    #[comptime] code: Code,
    #[comptime] blueprint: Blueprint,
    #[comptime] until_aside: Option<usize>,
) -> Corrections<N> {
    let config = comptime!(blueprint.tile);
    let groups = comptime!(config.groups);
    let head_width = W::value();
    let lanes = N::value();
    let rows = QueryRows::<N, R, RV>::load::<E, W, WV>(
        own, query, grad_out, &*stats, layouts, sizes, blueprint,
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
    let steps = walk.steps(blocks, blueprint);
    for index in 0..steps.count {
        let step = steps.at(index);
        let token = step.token;
        rows.products::<T, E, M, W, WV>(
            walk,
            key,
            value,
            token,
            sizes,
            &mut scores,
            &mut slopes,
            blueprint,
        );
        walk.modify_with_slope(&mut scores, &mut slopes, token, sizes, blueprint);
        walk.hide(&mut scores, step, sizes, blueprint);
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
                #[comptime]
                match kept {
                    ComptimeOption::Some(kept) => {
                        let at = index * comptime!(config.block * groups) + slot;
                        kept.data[kept.weights + at] = weight;
                        kept.data[kept.slopes + at] = slopes[slot];
                    }
                    ComptimeOption::None => {}
                }
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
    let grad_lse = lane_stats::<N>(
        &*stats,
        &own.rows,
        rows.first,
        sizes.seq_q,
        GRAD_LSE,
        groups,
    );
    let mut scales = Array::<Vector<f32, N>>::new(groups);
    let mut factors = Array::<Vector<f32, N>>::new(groups);
    let mut deltas = Array::<Vector<f32, N>>::new(groups);
    // Softcapped or bent, the gradients that are summed here are not those of the scores.
    let counts = comptime!(!(blueprint.softcap || code.bends()));
    let mut surpluses = Array::<Vector<f32, N>>::new(groups);
    #[unroll]
    for g in 0..groups {
        let total = total.of(g);
        let empty = total.equal(&Vector::new(0.0f32));
        let factor = Vector::new(1.0f32) / select_many(empty, Vector::new(1.0f32), total);
        scales[g] = factor * Vector::new(sizes.scale);
        factors[g] = factor;
        surpluses[g] = if comptime!(counts) {
            excess.of(g) * factor - grad_lse[g]
        } else {
            Vector::new(0.0f32)
        };
        deltas[g] = rows.delta[g] + surpluses[g];
    }
    let row_factors = factors.with_vector_size::<Const<1>>();
    let row_deltas = deltas.with_vector_size::<Const<1>>();
    #[unroll(lanes == 1)]
    for slot in 0..comptime!(groups * lanes) {
        let row = own.rows[slot];
        if row < sizes.seq_q {
            let start = (rows.first + row) * STATS;
            stats[start + FACTOR] = row_factors[slot].extract(0usize);
            stats[start + DELTA] = row_deltas[slot].extract(0usize);
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
    Corrections::<N> { factors, surpluses }
}
