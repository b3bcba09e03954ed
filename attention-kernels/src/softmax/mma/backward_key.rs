//! The key walk of the backward: lanes share keys and gather their gradients from the queries of
//! every head that reads them.

use cubecl::prelude::*;

use super::{
    key_grads::{set_gradients_aside, store_gradients},
    soften::{Scores, Weights, score_factor},
    token_stats::TokenStats,
};
use crate::{
    block_map::BlockList,
    modification::{CapturedData, Code},
    softmax::{
        args::{Blueprint, KeyGradients, Layouts, ScoreTable, Sizes},
        key_walk::KeyWalk,
        rows::{own_rows, tile_index, value_head},
    },
    tile::{
        Arrival, Aside, Reads, Rows, Staged, Stream, Sums, Together, Tracks, as_laid_out, filled,
        matrix_accumulate, matrix_products, sync_tokens,
    },
};

/// [`attention_backward_key`](crate::softmax::backward_key) with tokens in shared memory: two
/// barriers a step, one where tokens are copied. `alike`: queries and the output's gradients lie alike.
#[cube(launch_unchecked, address_type = "dynamic")]
pub(crate) fn matrix_backward_key<
    T: Float,
    E: Float,
    M: Numeric,
    N: Size,
    W: Size,
    WV: Size,
    P: Size,
    PV: Size,
    O: Size,
    OV: Size,
    R: Size,
    C: Size,
    S: Size,
>(
    query: &[Vector<E, W>],
    key: &[Vector<E, P>],
    value: ComptimeOption<Box<[Vector<E, PV>]>>,
    grad_out: &[Vector<E, WV>],
    stats: &[Vector<f32, S>],
    mask: ComptimeOption<ScoreTable<M>>,
    bias: ComptimeOption<ScoreTable<T>>,
    blocks: ComptimeOption<BlockList>,
    mut grad_key: ComptimeOption<Box<[Vector<T, O>]>>,
    mut grad_value: ComptimeOption<Box<[Vector<T, OV>]>>,
    layouts: Layouts,
    sizes: Sizes,
    #[comptime] wanted: KeyGradients,
    captured: CapturedData,
    #[comptime] code: Code,
    #[comptime] blueprint: Blueprint,
    #[comptime] kind: Scores,
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
    let own = own_rows::<N>(tile_index(blueprint), sizes.seq_kv, blueprint);
    let walk = KeyWalk::<T, M, N>::new(&own, mask, bias, &captured, &sizes, code, blueprint);

    let key_heads = comptime!(if wanted.value {
        blueprint.value_group
    } else {
        1
    });
    let members = comptime!(blueprint.group * key_heads);
    let mut keys = Rows::<E, R>::new(comptime!(tile.held(blueprint.head_dim)), units, tile);
    keys.load::<P>(
        key,
        &layouts.key,
        own.batch,
        own.head * key_heads,
        &own.rows,
        sizes.seq_kv,
    );
    let values: ComptimeOption<Rows<E, R>> = value.map(|value| {
        let value_head = if comptime!(wanted.value) {
            own.head
        } else {
            value_head(own.head, blueprint)
        };
        let mut values = Rows::<E, R>::new(comptime!(tile.held(blueprint.value_dim)), units, tile);
        values.load::<PV>(
            &value,
            &layouts.value,
            own.batch,
            value_head,
            &own.rows,
            sizes.seq_kv,
        );
        values
    });
    let (query_width, grad_width) = (W::value(), WV::value());
    let arrival = comptime!(Arrival::new(
        tile.spread,
        [query_width, grad_width],
        Arrival::CopiedBeside
    ));
    let late = comptime!(tile.lent && arrival == Arrival::Stored);
    let mut queries = Staged::<E, W>::new(
        comptime!(tile.held(blueprint.head_dim)),
        units,
        tile,
        comptime!(Reads {
            products: true,
            sums: wanted.key
        }),
        arrival,
    );
    let mut grads = Staged::<E, WV>::new(
        comptime!(tile.held(blueprint.value_dim)),
        units,
        tile,
        comptime!(Reads {
            products: wanted.key,
            sums: wanted.value
        }),
        arrival,
    );

    let mut numbers = TokenStats::<S>::new(tile, arrival);

    let key_layout = comptime!(Sums {
        dim: if wanted.key { blueprint.head_dim } else { 0 },
        counts: false,
    });
    let value_layout = comptime!(Sums {
        dim: if wanted.value { blueprint.value_dim } else { 0 },
        counts: false,
    });
    let mut key_grads = filled::<C>(0.0f32, comptime!(key_layout.length(tile).max(1)), true);
    let mut value_grads = filled::<C>(0.0f32, comptime!(value_layout.length(tile).max(1)), true);
    let mut weights = filled::<N>(0.0f32, comptime!(slots * groups), true);
    let mut slopes = filled::<N>(0.0f32, comptime!(slots * groups), true);
    let factor = score_factor(sizes.scale, kind);
    let softened = Weights::new(sizes.scale, kind, tile);
    let last = max(sizes.seq_q, 1) - 1;

    let value_heads = sizes.heads / members;
    let first_value = (own.batch * value_heads + own.head) * sizes.seq_kv;
    let kv_heads = sizes.heads / blueprint.group;
    let first_key = (own.batch * kv_heads + own.head * key_heads) * sizes.seq_kv;
    let mut keys_aside = Aside::<N>::new(groups, until_aside);
    let mut values_aside = Aside::<N>::new(groups, until_aside);

    for member in 0..members {
        let head = own.head * members + member;
        let first_row = first_key + member / blueprint.group * sizes.seq_kv;
        if comptime!(key_heads > 1) {
            let in_group = member % blueprint.group;
            if member > 0 && in_group == 0 {
                let key_head = own.head * key_heads + member / blueprint.group;
                store_gradients::<T, N, C, O>(
                    &mut grad_key,
                    &key_grads,
                    sizes.scale,
                    &keys_aside,
                    &own,
                    first_row - sizes.seq_kv,
                    sizes.seq_kv,
                    key_layout,
                    tile,
                );
                keys_aside.restart();
                keys.load::<P>(
                    key,
                    &layouts.key,
                    own.batch,
                    key_head,
                    &own.rows,
                    sizes.seq_kv,
                );
                #[unroll]
                for slot in 0..key_grads.len() {
                    key_grads[slot] = Vector::new(0.0f32);
                }
            }
        }
        let mut tracks = Tracks::new::<W, WV>(
            Stream::of(&layouts.query, own.batch, head, last),
            Stream::of(&layouts.grad_out, own.batch, head, last),
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
        let first = (own.batch * sizes.heads + head) * sizes.seq_q;
        let steps = walk.steps(&blocks, head, &sizes, blueprint);
        if steps.count > 0 {
            let token = steps.at(0usize.runtime()).token;
            let place = 0usize.runtime();
            tracks.seek(token);
            tracks.fetch_first::<E, W>(&mut queries, query, place);
            tracks.fetch_second::<E, WV>(&mut grads, grad_out, place);
            numbers.fetch(stats, first, token, last);
        }
        for index in 0..steps.count {
            let step = steps.at(index);
            let token = step.token;
            if comptime!(arrival == Arrival::Stored) {
                sync_cube();
            }
            queries.store();
            grads.store();
            let (place, other) = (index % 2, (index + 1) % 2);
            numbers.store(place, token, sizes.seq_q, &softened);
            sync_tokens(arrival);
            queries.turn(place);
            grads.turn(place);
            numbers.turn(place);
            let next = steps.token_after(index);
            tracks.advance(next);
            // Where registers are short, what comes next is fetched when the products need none.
            if comptime!(!late) {
                tracks.fetch_first::<E, W>(&mut queries, query, other);
                tracks.fetch_second::<E, WV>(&mut grads, grad_out, other);
                numbers.fetch(stats, first, next, last);
            }
            matrix_products::<E, N, R, C, W>(
                &keys,
                &queries,
                &mut weights,
                factor,
                blueprint.head_dim,
                false,
                tile,
            );
            // Before the next product, where nothing else comes first: operands that are loaded ahead of a
            // branch fill the registers on its other side.
            if comptime!(kind == Scores::Products) {
                walk.hide(&mut weights, head, step, &sizes, blueprint);
            }
            #[comptime]
            match &values {
                ComptimeOption::Some(values) => {
                    matrix_products::<E, N, R, C, WV>(
                        values,
                        &grads,
                        &mut slopes,
                        f32::new(1.0),
                        blueprint.value_dim,
                        false,
                        tile,
                    );
                    walk.reweigh(&mut slopes, head, token, &sizes, blueprint);
                }
                ComptimeOption::None => {}
            }
            if comptime!(wanted.key) {
                numbers.take_delta::<N>(&mut slopes);
            }
            walk.modify_with_slope(&mut weights, &mut slopes, head, token, &sizes, blueprint);
            if comptime!(kind != Scores::Products) {
                walk.hide(&mut weights, head, steps.at(index), &sizes, blueprint);
            }
            numbers.soften::<N>(&mut weights, &mut slopes, &softened, wanted.key);
            if comptime!(late) {
                tracks.fetch_first::<E, W>(&mut queries, query, other);
                tracks.fetch_second::<E, WV>(&mut grads, grad_out, other);
                numbers.fetch(stats, first, next, last);
            }
            if comptime!(wanted.value) {
                walk.reweigh(&mut weights, head, token, &sizes, blueprint);
                matrix_accumulate::<E, N, R, C, WV>(
                    &mut value_grads,
                    &weights,
                    &grads,
                    value_layout,
                    tile,
                );
                set_gradients_aside::<T, N, C, OV>(
                    &mut grad_value,
                    &mut value_grads,
                    &mut values_aside,
                    &own,
                    first_value,
                    sizes.seq_kv,
                    value_layout,
                    tile,
                );
            }
            if comptime!(wanted.key) {
                matrix_accumulate::<E, N, R, C, W>(
                    &mut key_grads,
                    &slopes,
                    &queries,
                    key_layout,
                    tile,
                );
                set_gradients_aside::<T, N, C, O>(
                    &mut grad_key,
                    &mut key_grads,
                    &mut keys_aside,
                    &own,
                    first_row,
                    sizes.seq_kv,
                    key_layout,
                    tile,
                );
            }
        }
        // What was fetched last is on its way, and read by nobody: the next head's first takes its place.
        if comptime!(members > 1) {
            sync_tokens(arrival);
        }
    }

    store_gradients::<T, N, C, OV>(
        &mut grad_value,
        &value_grads,
        f32::new(1.0),
        &values_aside,
        &own,
        first_value,
        sizes.seq_kv,
        value_layout,
        tile,
    );
    store_gradients::<T, N, C, O>(
        &mut grad_key,
        &key_grads,
        sizes.scale,
        &keys_aside,
        &own,
        first_key + comptime!(key_heads - 1) * sizes.seq_kv,
        sizes.seq_kv,
        key_layout,
        tile,
    );
}
