//! The forward walk: each lane owns a query and meets the keys block by block.

use cubecl::prelude::*;

use super::{
    args::{Blueprint, Claims, Layout, ScoreTable, Sizes},
    exponential::exp_difference,
    query_walk::QueryWalk,
    rows::{
        OwnedRows, is_claimed, key_head, own_rows, remaining, tile_count, tile_index, value_head,
    },
    score::{HIDDEN, weight},
    share::RowShare,
    split::{KeyPart, KeySplit},
};
use crate::{
    block_map::BlockList,
    modification::{CapturedData, Code},
    tile::{
        Aside, Spread, Stream, accumulate, block_products, filled, first_chunk, packed,
        slots_start, store_rows, sum_columns,
    },
};

/// Online softmax over key blocks (<https://arxiv.org/abs/1805.02867>): of all keys, or of the parts
/// that [`attention_combine`](super::combine) puts together.
#[cube(launch_unchecked, address_type = "dynamic")]
pub(crate) fn attention_forward<
    T: Float,
    E: Float,
    F: Float,
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
    mask: ComptimeOption<ScoreTable<M>>,
    bias: ComptimeOption<ScoreTable<T>>,
    blocks: ComptimeOption<BlockList>,
    split: ComptimeOption<KeySplit>,
    claims: ComptimeOption<Claims>,
    out: &mut [Vector<F, WV>],
    lse: &mut [f32],
    query_layout: Layout,
    key_layout: Layout,
    value_layout: Layout,
    sizes: Sizes,
    captured: CapturedData,
    #[comptime] code: Code,
    #[comptime] blueprint: Blueprint,
    #[comptime] until_aside: Option<usize>,
    #[define(T)] _dtype: ElemType,
    #[define(E)] _operand_dtype: ElemType,
    #[define(F)] _out_dtype: ElemType,
    #[define(M)] _mask_dtype: ElemType,
) {
    let query_layout = packed(&query_layout, blueprint.packed);
    let key_layout = packed(&key_layout, blueprint.packed);
    let value_layout = packed(&value_layout, blueprint.packed);
    let part = KeyPart::new(&split, tile_index(blueprint), &sizes);
    let tile = part.tile;
    if is_claimed(&claims, blueprint) && tile < tile_count::<N>(sizes.seq_q, blueprint) {
        let own = own_rows::<N>(tile, sizes.seq_q, blueprint);
        let walk = QueryWalk::<T, M, N>::new(&own, mask, bias, &captured, &sizes, code, blueprint);
        let config = comptime!(blueprint.tile);
        let groups = comptime!(config.groups);
        let value_width = WV::value();
        // Of a row, what one lane has.
        let columns = comptime!(config.spread.columns());
        let head_dim = comptime!(blueprint.head_dim / columns);
        let value_dim = comptime!(blueprint.value_dim / columns);

        let rows = own.load::<E, N, R, W>(query, &query_layout, sizes.seq_q, head_dim, config);
        let kv_head = key_head(own.head, blueprint);
        let last = sizes.seq_kv - 1;
        let keys = Stream::of(&key_layout, own.batch, kv_head, last).of_lane(config);
        let values = Stream::of(
            &value_layout,
            own.batch,
            value_head(kv_head, blueprint),
            last,
        )
        .of_lane(config);

        let mut sums = filled::<RV>(
            0.0f32,
            comptime!(value_dim / value_width * groups),
            config.unroll,
        );
        let mut highest = filled::<N>(HIDDEN, groups, true);
        let mut total = filled::<N>(0.0f32, groups, true);
        let mut decay = filled::<N>(0.0f32, groups, true);
        let mut scores = filled::<N>(0.0f32, comptime!(config.slots() * groups), config.unroll);

        let first = part.first_row + (own.batch * sizes.heads + own.head) * sizes.seq_q;
        let mut aside = Aside::<N>::new(groups, until_aside);
        let steps = walk.steps_between(&blocks, part.start, part.end, blueprint);
        for index in 0..steps.count {
            let step = steps.at(index);
            let token = step.token;
            let own_token = token + slots_start(config);
            block_products::<E, N, R, W>(
                &rows,
                key,
                &keys,
                own_token,
                &mut scores,
                sizes.scale,
                head_dim,
                config,
            );
            sum_columns::<N>(&mut scores, config);
            walk.modify(&mut scores, token, &sizes, blueprint);
            walk.hide(&mut scores, step, &sizes, blueprint);
            soften::<N>(&mut scores, &mut highest, &mut total, &mut decay, blueprint);
            walk.reweigh(&mut scores, token, &sizes, blueprint);
            accumulate::<E, N, RV, WV>(
                &mut sums,
                &decay,
                true,
                &scores,
                value,
                &values,
                own_token,
                remaining(token, walk.end, config),
                value_dim,
                config,
            );
            aside.decay(&decay);
            aside.step::<F, RV, WV>(
                &mut sums,
                out,
                &own.rows,
                first,
                sizes.seq_q,
                value_dim,
                config,
            );
        }

        finish::<F, N, RV, WV>(
            sums, highest, total, &aside, &own, out, lse, first, &sizes, blueprint,
        );
    }
}

/// The larger of a score and what is never NaN. Where lanes are a vector register's, one instruction:
/// `max` takes two more for a NaN on either side.
#[cube]
fn larger<N: Size>(score: Vector<f32, N>, highest: Vector<f32, N>) -> Vector<f32, N> {
    let lanes = N::value();
    if comptime!(lanes > 1) {
        select_many(score.greater_than(&highest), score, highest)
    } else {
        max(highest, score)
    }
}

/// Scores of a block become weights; maximum, sum and decay of each row follow.
#[cube]
fn soften<N: Size>(
    scores: &mut Array<Vector<f32, N>>,
    highest: &mut Array<Vector<f32, N>>,
    total: &mut Array<Vector<f32, N>>,
    decay: &mut Array<Vector<f32, N>>,
    #[comptime] blueprint: Blueprint,
) {
    let tile = comptime!(blueprint.tile);
    let groups = comptime!(tile.groups);
    #[unroll]
    for g in 0..groups {
        decay[g] = highest[g];
    }
    #[unroll(tile.unroll)]
    for t in 0..comptime!(tile.slots()) {
        #[unroll]
        for g in 0..groups {
            highest[g] = larger::<N>(scores[t * groups + g], highest[g]);
        }
    }
    // Summed by themselves before they join the total: an error grows with the root of its chain's length.
    let mut part = Array::<Vector<f32, N>>::new(groups);
    #[unroll]
    for g in 0..groups {
        decay[g] = exp_difference::<N>(decay[g], highest[g], blueprint.exponential);
        part[g] = Vector::new(0.0f32);
    }
    #[unroll(tile.unroll)]
    for t in 0..comptime!(tile.slots()) {
        #[unroll]
        for g in 0..groups {
            let weight = weight::<N>(scores[t * groups + g], highest[g], blueprint);
            scores[t * groups + g] = weight;
            part[g] += weight;
        }
    }
    #[unroll]
    for g in 0..groups {
        total[g] = fma(total[g], decay[g], part[g]);
    }
}

/// What a row's sums are multiplied with, and its log-sum-exp.
#[cube]
fn row_end<N: Size>(
    highest: Vector<f32, N>,
    total: Vector<f32, N>,
    sizes: &Sizes,
) -> (Vector<f32, N>, Vector<f32, N>) {
    let empty = total.equal(&Vector::new(0.0f32));
    let divisor = select_many(empty, Vector::new(1.0f32), total);
    let factor = Vector::new(1.0f32) / divisor;
    let row_lse = highest + Vector::ln(divisor);
    let found = select_many(empty, Vector::new(sizes.neg_inf), row_lse);
    (factor, found)
}

/// Divides by the sum and writes output and log-sum-exp of the rows that exist.
#[cube]
fn finish<F: Float, N: Size, RV: Size, WV: Size>(
    sums: Array<Vector<f32, RV>>,
    highest: Array<Vector<f32, N>>,
    total: Array<Vector<f32, N>>,
    aside: &Aside<N>,
    own: &OwnedRows,
    out: &mut [Vector<F, WV>],
    lse: &mut [f32],
    first: usize,
    sizes: &Sizes,
    #[comptime] blueprint: Blueprint,
) {
    let tile = comptime!(blueprint.tile);
    match comptime!(tile.spread) {
        Spread::Split {
            rows,
            lanes,
            columns,
        } => {
            let width = WV::value();
            let share = RowShare::new(highest[0], total[0], rows * columns, lanes, blueprint);
            let (factor, found) = row_end::<N>(share.highest, share.total, sizes);
            let row = own.rows[0];
            let exists = row < sizes.seq_q;
            if exists && share.leads(columns) {
                lse[first + row] = found.extract(0usize);
            }
            share.store::<F, RV, WV>(
                &sums,
                factor.extract(0usize),
                out,
                (first + row) * comptime!(blueprint.value_dim / width) + first_chunk(tile),
                exists,
                blueprint.value_dim,
                columns,
            );
        }
        _ => {
            let lanes = N::value();
            let groups = comptime!(tile.groups);
            let mut factors = Array::<Vector<f32, N>>::new(groups);
            let mut found = Array::<Vector<f32, N>>::new(groups);
            #[unroll]
            for g in 0..groups {
                let (factor, row_lse) = row_end::<N>(highest[g], total[g], sizes);
                factors[g] = factor;
                found[g] = row_lse;
            }
            let found = found.with_vector_size::<Const<1>>();
            let rows = &own.rows;
            #[unroll(lanes == 1)]
            for slot in 0..comptime!(groups * lanes) {
                let row = rows[slot];
                if row < sizes.seq_q {
                    lse[first + row] = found[slot].extract(0usize);
                }
            }
            store_rows::<F, N, RV, WV>(
                &sums,
                &factors,
                out,
                &own.rows,
                first,
                sizes.seq_q,
                aside,
                blueprint.value_dim,
                tile,
            );
        }
    }
}
