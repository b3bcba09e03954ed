//! The gradients of the tables that score modifications look up.
//!
//! ```text
//! dT[slot] = sum of dS * factor over all scores whose modification reads the slot
//! ```
//!
//! Each lane owns a row of sums, one for each slot, and adds up there what its queries give: no two
//! lanes write to the same address, and a second kernel sums the rows, always in the same order.

use cubecl::prelude::*;

use super::{
    args::{Blueprint, Layouts, ScoreTable, Sizes},
    delta::{FACTOR, lane_stats},
    modify::{LaneAxis, Modifier},
    query_rows::QueryRows,
    query_walk::QueryWalk,
    rows::{OwnedRows, own_rows, tile_count, tile_index},
    score::weight,
};
use crate::{
    block_map::BlockList,
    modification::{CapturedData, Code, scaled, slots},
    tile::filled,
};

/// The sums that the kernel writes: `[heads, batch, rows, slots]`.
#[derive(CubeType, CubeLaunch, Clone, Copy)]
#[expand(derive(Clone))]
pub(crate) struct TableSums {
    /// Rows of sums for each head of each batch element; row `r` takes the queries `r`, `r + rows`,
    /// and so on.
    pub rows: usize,
    pub slots: usize,
}

/// `lookup` is the code up to the lookup, `after` what follows, with the mask.
#[cube(launch_unchecked, address_type = "dynamic")]
pub(crate) fn attention_backward_table<
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
    stats: &[f32],
    mask: ComptimeOption<ScoreTable<M>>,
    bias: ComptimeOption<ScoreTable<E>>,
    blocks: ComptimeOption<BlockList>,
    sums: &mut [f32],
    layouts: Layouts,
    sizes: Sizes,
    shape: TableSums,
    captured: CapturedData,
    #[comptime] lookup: Code,
    #[comptime] after: Code,
    #[comptime] single: bool,
    #[comptime] blueprint: Blueprint,
    #[define(E)] _dtype: ElemType,
    #[define(M)] _mask_dtype: ElemType,
) {
    let layouts = layouts.packed(blueprint);
    let tile = tile_index(blueprint);
    if tile < tile_count::<N>(shape.rows, blueprint) {
        let slot_rows = own_rows::<N>(tile, shape.rows, blueprint);
        let config = comptime!(blueprint.tile);
        let groups = comptime!(config.groups);
        let width = N::value();
        let lanes = comptime!(groups * width);
        let length = comptime!(config.block * groups);
        let mut scores = filled::<N>(0.0f32, length, config.unroll);
        let mut slopes = filled::<N>(0.0f32, length, config.unroll);
        let mut total = filled::<N>(0.0f32, groups, true);

        let first_row = (slot_rows.head * sizes.batch + slot_rows.batch) * shape.rows;
        let mut starts = Array::<usize>::new(lanes);
        #[unroll]
        for slot in 0..lanes {
            starts[slot] = (first_row + slot_rows.rows[slot]) * shape.slots;
            if slot_rows.rows[slot] < shape.rows {
                for index in 0..shape.slots {
                    sums[starts[slot] + index] = 0.0;
                }
            }
        }

        for round in 0..sizes.seq_q.div_ceil(shape.rows) {
            let own = later(&slot_rows, round * shape.rows, sizes.seq_q, lanes);
            if own.first < sizes.seq_q {
                let walk = QueryWalk::<E, M, N>::new(
                    &own,
                    mask.clone(),
                    bias.clone(),
                    &captured,
                    &sizes,
                    comptime!(after.clone()),
                    blueprint,
                );
                let before = Modifier::<N>::new(
                    &own.rows,
                    sizes.seq_q,
                    own.batch,
                    &captured,
                    LaneAxis::Queries,
                    comptime!(lookup.clone()),
                    groups,
                );
                let rows = QueryRows::<N, R, RV>::load::<E, W, WV>(
                    &own, query, grad_out, stats, &layouts, &sizes, blueprint,
                );
                let factor =
                    lane_stats::<N>(stats, &own.rows, rows.first, sizes.seq_q, FACTOR, groups);
                let last = sizes.seq_kv - 1;
                let steps = walk.steps(&blocks, blueprint);
                for index in 0..steps.count {
                    let step = steps.at(index);
                    let first = step.token;
                    rows.products::<E, E, M, W, WV>(
                        &walk,
                        key,
                        value,
                        first,
                        &sizes,
                        &mut scores,
                        &mut slopes,
                        blueprint,
                    );
                    walk.cap(&mut scores, &sizes, blueprint);
                    before.modify(&mut scores, own.head, first, last, config);
                    walk.modifier.modify_with_slope(
                        &mut scores,
                        &mut slopes,
                        own.head,
                        first,
                        last,
                        config,
                    );
                    walk.hide(&mut scores, step, &sizes, blueprint);

                    let mut part = filled::<N>(0.0f32, groups, true);
                    #[unroll(config.unroll)]
                    for t in 0..comptime!(config.block) {
                        let token = min(first + t, last);
                        #[unroll]
                        for g in 0..groups {
                            let slot = t * groups + g;
                            let grad = weight::<N>(scores[slot], rows.lse[g], blueprint)
                                * factor[g]
                                * slopes[slot];
                            let at = before.place(own.head, token, g);
                            let grad = scaled::<N>(grad, &at, &captured, comptime!(lookup.clone()));
                            if comptime!(single) {
                                part[g] += grad;
                            } else {
                                let slots = slots::<N>(&at, &captured, comptime!(lookup.clone()));
                                #[unroll]
                                for lane in 0..width {
                                    let row = comptime!(g * width + lane);
                                    if own.rows[row] < own.end {
                                        let target = starts[row] + slots.extract(lane) as usize;
                                        sums[target] += grad.extract(lane);
                                    }
                                }
                            }
                        }
                    }
                    if comptime!(single) {
                        #[unroll]
                        for g in 0..groups {
                            let mut existing = part[g];
                            #[unroll]
                            for lane in 0..width {
                                let row = comptime!(g * width + lane);
                                let sum = part[g].extract(lane);
                                existing.insert(lane, select(own.rows[row] < own.end, sum, 0.0f32));
                            }
                            total[g] += existing;
                        }
                    }
                }
            }
        }
        if comptime!(single) {
            #[unroll]
            for g in 0..groups {
                #[unroll]
                for lane in 0..width {
                    let row = comptime!(g * width + lane);
                    if slot_rows.rows[row] < shape.rows {
                        sums[starts[row]] = total[g].extract(lane);
                    }
                }
            }
        }
    }
}

/// The same lanes `shift` queries later; rows from `end` on do not exist.
#[cube]
fn later(slots: &OwnedRows, shift: usize, length: usize, #[comptime] lanes: usize) -> OwnedRows {
    let mut rows = Array::<usize>::new(lanes);
    #[unroll]
    for slot in 0..lanes {
        rows[slot] = slots.rows[slot] + shift;
    }
    OwnedRows {
        batch: slots.batch,
        head: slots.head,
        first: slots.first + shift,
        end: min(slots.end + shift, length),
        rows,
    }
}
