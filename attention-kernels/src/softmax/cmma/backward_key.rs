//! The key walk of the backward: planes own keys and gather their gradients from the queries of every
//! head that reads them.

use cubecl::prelude::*;

use crate::{
    block_map::BlockList,
    modification::{CapturedData, Code},
    softmax::{
        args::{Blueprint, KeyGradients, Layouts, ScoreTable, Sizes},
        delta::{DELTA, LSE},
        key_walk::KeyWalk,
        rows::{OwnedRows, own_rows, tile_index, value_head},
        score::weight,
    },
    tile::{
        FragmentSums, PlaneTile, RowOperands, RowTile, Scratch, Stream, Tokens, filled, slot_token,
    },
    turns::turn,
};

/// [`attention_backward_key`](crate::softmax::backward_key) with scores in shared memory: two block
/// barriers a step, for its tokens.
#[cube(launch_unchecked, address_type = "dynamic")]
pub(crate) fn fragment_backward_key<E: Float, M: Numeric, N: Size, W: Size, WV: Size, S: Size>(
    query: &[Vector<E, W>],
    key: &[Vector<E, W>],
    value: ComptimeOption<Box<[Vector<E, WV>]>>,
    grad_out: &[Vector<E, WV>],
    stats: &[Vector<f32, S>],
    mask: ComptimeOption<ScoreTable<M>>,
    bias: ComptimeOption<ScoreTable<E>>,
    blocks: ComptimeOption<BlockList>,
    mut grad_key: ComptimeOption<Box<[Vector<E, W>]>>,
    grad_value: ComptimeOption<Box<[Vector<E, WV>]>>,
    layouts: Layouts,
    sizes: Sizes,
    #[comptime] wanted: KeyGradients,
    captured: CapturedData,
    #[comptime] code: Code,
    #[comptime] blueprint: Blueprint,
    #[comptime] tile: PlaneTile,
    #[define(E)] _dtype: ElemType,
    #[define(M)] _mask_dtype: ElemType,
) {
    let layouts = layouts.packed(blueprint);
    let own = own_rows::<N>(tile_index(blueprint), sizes.seq_kv, blueprint);
    let walk = KeyWalk::<E, M, N>::new(&own, mask, bias, &captured, &sizes, code, blueprint);
    let mut queries = Tokens::<E, W>::new(sizes.zero, blueprint.head_dim, tile);
    let mut grads = Tokens::<E, WV>::new(sizes.zero, blueprint.value_dim, tile);
    let mut scratch = Scratch::<E>::new(sizes.zero, tile);

    let key_heads = comptime!(if wanted.value {
        blueprint.value_group
    } else {
        1
    });
    let members = comptime!(blueprint.group * key_heads);
    let mut keys = RowOperands::<E>::new(blueprint.head_dim, tile);
    keys.load::<W>(
        &mut scratch,
        key,
        &layouts.key,
        own.batch,
        own.head * key_heads,
        own.first,
        sizes.seq_kv,
    );
    let values: ComptimeOption<RowOperands<E>> = value.map(|value| {
        let value_head = if comptime!(wanted.value) {
            own.head
        } else {
            value_head(own.head, blueprint)
        };
        let mut values = RowOperands::<E>::new(blueprint.value_dim, tile);
        values.load::<WV>(
            &mut scratch,
            &value,
            &layouts.value,
            own.batch,
            value_head,
            own.first,
            sizes.seq_kv,
        );
        values
    });

    let slots = comptime!(tile.run());
    let key_dim = comptime!(if wanted.key { blueprint.head_dim } else { 0 });
    let value_dim = comptime!(if wanted.value { blueprint.value_dim } else { 0 });
    let mut key_grads = FragmentSums::new(sizes.zero, key_dim, tile);
    let mut value_grads = FragmentSums::new(sizes.zero, value_dim, tile);
    let mut weights = filled::<N>(0.0f32, slots, true);
    let mut slopes = filled::<N>(0.0f32, slots, true);
    let last = max(sizes.seq_q, 1) - 1;

    for member in 0..members {
        let member = turn(member, members.runtime());
        let head = own.head * members + member;
        if comptime!(key_heads > 1) {
            let in_group = member % blueprint.group;
            if member > 0 && in_group == 0 {
                let key_head = own.head * key_heads + member / blueprint.group;
                #[comptime]
                match &mut grad_key {
                    ComptimeOption::Some(target) => store_keys::<E, W>(
                        &key_grads,
                        &mut scratch,
                        target,
                        &own,
                        key_head - 1,
                        &sizes,
                        blueprint,
                    ),
                    ComptimeOption::None => {}
                }
                keys.load::<W>(
                    &mut scratch,
                    key,
                    &layouts.key,
                    own.batch,
                    key_head,
                    own.first,
                    sizes.seq_kv,
                );
                key_grads.clear();
            }
        }
        let query_stream = Stream::of(&layouts.query, own.batch, head, last);
        let grad_stream = Stream::of(&layouts.grad_out, own.batch, head, last);
        let first = (own.batch * sizes.heads + head) * sizes.seq_q;
        let steps = walk.steps(&blocks, head, &sizes, blueprint);
        if steps.count > 0 {
            let token = steps.at(0usize.runtime()).token;
            queries.fetch(query, &query_stream, token);
            grads.fetch(grad_out, &grad_stream, token);
        }
        for index in 0..steps.count {
            let step = steps.at(index);
            let token = step.token;
            sync_cube();
            queries.store(query, &query_stream, token);
            grads.store(grad_out, &grad_stream, token);
            sync_cube();
            let next = steps.token_after(index);
            queries.fetch(query, &query_stream, next);
            grads.fetch(grad_out, &grad_stream, next);
            scratch.multiply::<W>(&keys, &queries);
            scratch.read::<N>(&mut weights, sizes.scale);
            sync_plane();
            let row = TokenStats { first, token, last };
            #[comptime]
            match &values {
                ComptimeOption::Some(values) => {
                    scratch.multiply::<WV>(values, &grads);
                    scratch.read::<N>(&mut slopes, f32::new(1.0));
                    walk.reweigh(&mut slopes, head, token, &sizes, blueprint);
                    subtract_delta::<N, S>(&mut slopes, stats, &row, blueprint.tile);
                }
                ComptimeOption::None => {}
            }
            walk.modify_with_slope(&mut weights, &mut slopes, head, token, &sizes, blueprint);
            walk.hide(&mut weights, head, step, &sizes, blueprint);
            #[unroll]
            for slot in 0..slots {
                let lse = row.of::<S>(stats, slot, blueprint.tile).extract(LSE);
                weights[slot] = weight::<N>(weights[slot], Vector::new(lse), blueprint);
                if comptime!(wanted.key) {
                    slopes[slot] *= weights[slot];
                }
            }
            if comptime!(wanted.value) {
                walk.reweigh(&mut weights, head, token, &sizes, blueprint);
                scratch.write::<N>(&weights);
                sync_plane();
                value_grads.accumulate::<E, WV>(&scratch, &grads);
                sync_plane();
            }
            if comptime!(wanted.key) {
                scratch.write::<N>(&slopes);
                sync_plane();
                key_grads.accumulate::<E, W>(&scratch, &queries);
            }
        }
    }

    let value_heads = sizes.heads / members;
    let first = (own.batch * value_heads + own.head) * sizes.seq_kv;
    let row = own.rows[0];
    #[comptime]
    match grad_value {
        ComptimeOption::Some(mut target) => value_grads.store::<E, WV>(
            &mut scratch,
            f32::new(1.0),
            &mut target,
            first + row,
            row < sizes.seq_kv,
        ),
        ComptimeOption::None => {}
    }
    #[comptime]
    match grad_key {
        ComptimeOption::Some(mut target) => store_keys::<E, W>(
            &key_grads,
            &mut scratch,
            &mut target,
            &own,
            own.head * key_heads + comptime!(key_heads - 1),
            &sizes,
            blueprint,
        ),
        ComptimeOption::None => {}
    }
}

/// Writes the keys' gradients of one head.
#[cube]
fn store_keys<E: Float, W: Size>(
    key_grads: &FragmentSums,
    scratch: &mut Scratch<E>,
    target: &mut [Vector<E, W>],
    own: &OwnedRows,
    key_head: usize,
    sizes: &Sizes,
    #[comptime] blueprint: Blueprint,
) {
    let kv_heads = sizes.heads / blueprint.group;
    let row = own.rows[0];
    key_grads.store::<E, W>(
        scratch,
        sizes.scale,
        target,
        (own.batch * kv_heads + key_head) * sizes.seq_kv + row,
        row < sizes.seq_kv,
    );
}

/// Where the numbers of a step's queries lie.
#[derive(CubeType)]
struct TokenStats {
    /// The head's first row among the rows of all heads.
    first: usize,
    token: usize,
    last: usize,
}

#[cube]
impl TokenStats {
    /// Those of this lane's `slot`-th query.
    fn of<S: Size>(
        &self,
        stats: &[Vector<f32, S>],
        slot: usize,
        #[comptime] tile: RowTile,
    ) -> Vector<f32, S> {
        stats[self.first + min(slot_token(self.token, slot, tile), self.last)]
    }
}

/// The tokens are queries: each has a `delta` of its own.
#[cube]
fn subtract_delta<N: Size, S: Size>(
    slopes: &mut Array<Vector<f32, N>>,
    stats: &[Vector<f32, S>],
    row: &TokenStats,
    #[comptime] tile: RowTile,
) {
    #[unroll]
    for slot in 0..tile.slots() {
        slopes[slot] -= Vector::new(row.of::<S>(stats, slot, tile).extract(DELTA));
    }
}
