//! The key walk of the backward: each lane owns a key and gathers its gradients from the queries
//! of every head that reads it. A walk that computes `dV` owns a value, and meets the key heads that
//! go with it one after the other.
//!
//! ```text
//! dV = P^T dO,    dK = scale * (dS * softcap')^T Q
//! ```

use cubecl::prelude::*;

use super::{
    args::{Blueprint, Claims, KeyGradients, Layouts, ScoreTable, Sizes},
    delta::{DELTA, FACTOR, LSE, STATS},
    key_walk::KeyWalk,
    rows::{OwnedRows, is_claimed, own_rows, remaining, tile_count, tile_index, value_head},
    score::weight,
};
use crate::{
    block_map::BlockList,
    modification::{CapturedData, Code},
    tile::{Aside, RowTile, Stream, accumulate, block_products, filled, store_rows},
    turns::turn,
};

#[cube(launch_unchecked, address_type = "dynamic")]
pub(crate) fn attention_backward_key<
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
    value: ComptimeOption<Box<[Vector<E, WV>]>>,
    grad_out: &[Vector<E, WV>],
    stats: &[f32],
    mask: ComptimeOption<ScoreTable<M>>,
    bias: ComptimeOption<ScoreTable<T>>,
    blocks: ComptimeOption<BlockList>,
    claims: ComptimeOption<Claims>,
    mut grad_key: ComptimeOption<Box<[Vector<T, W>]>>,
    mut grad_value: ComptimeOption<Box<[Vector<T, WV>]>>,
    layouts: Layouts,
    sizes: Sizes,
    #[comptime] wanted: KeyGradients,
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
    if is_claimed(&claims, blueprint) && tile < tile_count::<N>(sizes.seq_kv, blueprint) {
        let own = own_rows::<N>(tile, sizes.seq_kv, blueprint);
        let walk = KeyWalk::<T, M, N>::new(&own, mask, bias, &captured, &sizes, code, blueprint);
        let config = comptime!(blueprint.tile);
        let groups = comptime!(config.groups);
        let head_width = W::value();
        let value_width = WV::value();

        let key_heads = comptime!(if wanted.value {
            blueprint.value_group
        } else {
            1
        });
        let members = comptime!(blueprint.group * key_heads);

        let mut keys = own.load_of::<E, N, R, W>(
            own.head * key_heads,
            key,
            &layouts.key,
            sizes.seq_kv,
            blueprint.head_dim,
            config,
        );
        let values: ComptimeOption<Array<Vector<f32, RV>>> = value.map(|value| {
            let value_head = if comptime!(wanted.value) {
                own.head
            } else {
                value_head(own.head, blueprint)
            };
            own.load_of::<E, N, RV, WV>(
                value_head,
                &value,
                &layouts.value,
                sizes.seq_kv,
                blueprint.value_dim,
                config,
            )
        });
        let key_sums = comptime!(if wanted.key {
            blueprint.head_dim / head_width * groups
        } else {
            1
        });
        let value_sums = comptime!(if wanted.value {
            blueprint.value_dim / value_width * groups
        } else {
            1
        });
        let mut key_grads = filled::<R>(0.0f32, key_sums, config.unroll);
        let mut value_grads = filled::<RV>(0.0f32, value_sums, config.unroll);
        let factors = filled::<N>(1.0f32, groups, true);
        let mut weights = filled::<N>(0.0f32, comptime!(config.block * groups), config.unroll);
        let mut slopes = filled::<N>(0.0f32, comptime!(config.block * groups), config.unroll);

        let value_heads = sizes.heads / members;
        let first_value = (own.batch * value_heads + own.head) * sizes.seq_kv;
        let first_key = first_value * key_heads;
        let mut keys_aside = Aside::<N>::new(groups, until_aside);
        let mut values_aside = Aside::<N>::new(groups, until_aside);

        for member in 0..members {
            let member = turn(member, members.runtime());
            let head = own.head * members + member;
            let row_of_key = first_key + member / blueprint.group * sizes.seq_kv;
            if comptime!(key_heads > 1) {
                let in_group = member % blueprint.group;
                if member > 0 && in_group == 0 {
                    let key_head = own.head * key_heads + member / blueprint.group;
                    #[comptime]
                    match &mut grad_key {
                        ComptimeOption::Some(target) => store_keys::<T, N, R, W>(
                            &key_grads,
                            target,
                            &own,
                            row_of_key - sizes.seq_kv,
                            &keys_aside,
                            &sizes,
                            blueprint,
                        ),
                        ComptimeOption::None => {}
                    }
                    let next = own.load_of::<E, N, R, W>(
                        key_head,
                        key,
                        &layouts.key,
                        sizes.seq_kv,
                        blueprint.head_dim,
                        config,
                    );
                    #[unroll(config.unroll)]
                    for slot in 0..comptime!(blueprint.head_dim / head_width * groups) {
                        keys[slot] = next[slot];
                    }
                    #[unroll(config.unroll)]
                    for slot in 0..key_sums {
                        key_grads[slot] = Vector::new(0.0f32);
                    }
                    keys_aside.restart();
                }
            }
            let last = sizes.seq_q - 1;
            let queries = Stream::of(&layouts.query, own.batch, head, last);
            let grads = Stream::of(&layouts.grad_out, own.batch, head, last);
            let first = (own.batch * sizes.heads + head) * sizes.seq_q;
            let steps = walk.steps(&blocks, head, &sizes, blueprint);
            for index in 0..steps.count {
                let step = steps.at(index);
                let token = step.token;
                let count = remaining(token, sizes.seq_q, config);
                block_products::<E, N, R, W>(
                    &keys,
                    query,
                    &queries,
                    token,
                    &mut weights,
                    sizes.scale,
                    blueprint.head_dim,
                    config,
                );
                #[comptime]
                match &values {
                    ComptimeOption::Some(values) => {
                        block_products::<E, N, RV, WV>(
                            values,
                            grad_out,
                            &grads,
                            token,
                            &mut slopes,
                            f32::new(1.0),
                            blueprint.value_dim,
                            config,
                        );
                        walk.reweigh(&mut slopes, head, token, &sizes, blueprint);
                        subtract_delta::<N>(&mut slopes, stats, first, token, last, config);
                    }
                    ComptimeOption::None => {}
                }
                walk.modify_with_slope(&mut weights, &mut slopes, head, token, &sizes, blueprint);
                walk.hide(&mut weights, head, step, &sizes, blueprint);
                #[unroll(config.unroll)]
                for t in 0..comptime!(config.block) {
                    let row = (first + min(token + t, last)) * STATS;
                    let lse = Vector::<f32, N>::new(stats[row + LSE]);
                    let factor = Vector::<f32, N>::new(stats[row + FACTOR]);
                    #[unroll]
                    for g in 0..groups {
                        let slot = t * groups + g;
                        weights[slot] = weight::<N>(weights[slot], lse, blueprint) * factor;
                        slopes[slot] *= weights[slot];
                    }
                }
                if comptime!(wanted.value) {
                    walk.reweigh(&mut weights, head, token, &sizes, blueprint);
                    accumulate::<E, N, RV, WV>(
                        &mut value_grads,
                        &factors,
                        false,
                        &weights,
                        grad_out,
                        &grads.again(sizes.zero),
                        token,
                        count,
                        blueprint.value_dim,
                        config,
                    );
                    #[comptime]
                    match &mut grad_value {
                        ComptimeOption::Some(target) => values_aside.step::<T, RV, WV>(
                            &mut value_grads,
                            target,
                            &own.rows,
                            first_value,
                            sizes.seq_kv,
                            blueprint.value_dim,
                            config,
                        ),
                        ComptimeOption::None => {}
                    }
                }
                if comptime!(wanted.key) {
                    accumulate::<E, N, R, W>(
                        &mut key_grads,
                        &factors,
                        false,
                        &slopes,
                        query,
                        &queries.again(sizes.zero),
                        token,
                        count,
                        blueprint.head_dim,
                        config,
                    );
                    #[comptime]
                    match &mut grad_key {
                        ComptimeOption::Some(target) => keys_aside.step::<T, R, W>(
                            &mut key_grads,
                            target,
                            &own.rows,
                            row_of_key,
                            sizes.seq_kv,
                            blueprint.head_dim,
                            config,
                        ),
                        ComptimeOption::None => {}
                    }
                }
            }
        }

        #[comptime]
        match grad_value {
            ComptimeOption::Some(mut target) => store_rows::<T, N, RV, WV>(
                &value_grads,
                &factors,
                &mut target,
                &own.rows,
                first_value,
                sizes.seq_kv,
                &values_aside,
                blueprint.value_dim,
                config,
            ),
            ComptimeOption::None => {}
        }
        #[comptime]
        match grad_key {
            ComptimeOption::Some(mut target) => store_keys::<T, N, R, W>(
                &key_grads,
                &mut target,
                &own,
                first_key + comptime!(key_heads - 1) * sizes.seq_kv,
                &keys_aside,
                &sizes,
                blueprint,
            ),
            ComptimeOption::None => {}
        }
    }
}

/// Writes the keys' gradients of one head.
#[cube]
fn store_keys<T: Float, N: Size, R: Size, W: Size>(
    key_grads: &Array<Vector<f32, R>>,
    target: &mut [Vector<T, W>],
    own: &OwnedRows,
    first: usize,
    aside: &Aside<N>,
    sizes: &Sizes,
    #[comptime] blueprint: Blueprint,
) {
    let tile = comptime!(blueprint.tile);
    let groups = comptime!(tile.groups);
    let mut scales = Array::<Vector<f32, N>>::new(groups);
    #[unroll]
    for g in 0..groups {
        scales[g] = Vector::new(sizes.scale);
    }
    store_rows::<T, N, R, W>(
        key_grads,
        &scales,
        target,
        &own.rows,
        first,
        sizes.seq_kv,
        aside,
        blueprint.head_dim,
        tile,
    );
}

/// The tokens are queries: each has a `delta` of its own.
#[cube]
fn subtract_delta<N: Size>(
    slopes: &mut Array<Vector<f32, N>>,
    stats: &[f32],
    first: usize,
    token: usize,
    last: usize,
    #[comptime] tile: RowTile,
) {
    let groups = comptime!(tile.groups);
    #[unroll(tile.unroll)]
    for t in 0..comptime!(tile.block) {
        let delta = Vector::<f32, N>::new(stats[(first + min(token + t, last)) * STATS + DELTA]);
        #[unroll]
        for g in 0..groups {
            slopes[t * groups + g] -= delta;
        }
    }
}
