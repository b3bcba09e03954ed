//! The probabilities of a block of queries, seen from the keys.

use cubecl::prelude::*;

use super::super::{
    args::{Blueprint, Layout, Sizes},
    key_walk::KeyWalk,
    rows::OwnedRows,
    score::weight,
};
use crate::{
    block_map::Step,
    tile::{Stream, block_products, load_rows},
};

/// The unit's keys of one key head in registers.
#[cube]
pub(super) fn load_keys<E: Float, N: Size, R: Size, W: Size>(
    own: &OwnedRows,
    key: &[Vector<E, W>],
    layout: &Layout,
    kv_head: usize,
    length: usize,
    #[comptime] blueprint: Blueprint,
) -> Array<Vector<f32, R>> {
    load_rows::<E, N, R, W>(
        key,
        layout,
        own.batch,
        kv_head,
        &own.rows,
        length,
        blueprint.head_dim,
        blueprint.tile,
    )
}

/// `exp(S - LSE)` of the queries from `token` on for the unit's keys; 0 where a key is hidden and
/// where there is no query.
#[cube]
pub(super) fn column_weights<E: Float, M: Numeric, N: Size, R: Size, W: Size>(
    walk: &KeyWalk<E, M, N>,
    keys: &Array<Vector<f32, R>>,
    query: &[Vector<E, W>],
    layout: &Layout,
    lse: &[f32],
    batch: usize,
    head: usize,
    token: usize,
    weights: &mut Array<Vector<f32, N>>,
    sizes: &Sizes,
    #[comptime] blueprint: Blueprint,
) {
    let tile = comptime!(blueprint.tile);
    let groups = comptime!(tile.groups);
    let last = sizes.seq_q - 1;
    let queries = Stream::of(layout, batch, head, last);
    block_products::<E, N, R, W>(
        keys,
        query,
        &queries,
        token,
        weights,
        sizes.scale,
        blueprint.head_dim,
        tile,
    );
    walk.modify(weights, head, token, sizes, blueprint);
    walk.hide(weights, head, Step::tested(token), sizes, blueprint);
    let first = (batch * sizes.heads + head) * sizes.seq_q;
    #[unroll(tile.unroll)]
    for t in 0..comptime!(tile.block) {
        let reference = Vector::<f32, N>::new(lse[first + min(token + t, last)]);
        #[unroll]
        for g in 0..groups {
            let slot = t * groups + g;
            weights[slot] = weight::<N>(weights[slot], reference, blueprint);
        }
    }
}

/// Writes a number for each of the unit's keys that exist, from `first` on.
#[cube]
pub(super) fn store_keys<N: Size>(
    values: Vector<f32, N>,
    target: &mut [f32],
    own: &OwnedRows,
    first: usize,
    length: usize,
    #[comptime] group: usize,
) {
    let lanes = N::value();
    #[unroll]
    for lane in 0..lanes {
        let key = own.rows[comptime!(group * lanes + lane)];
        if key < length {
            target[first + key] = values.extract(lane);
        }
    }
}
