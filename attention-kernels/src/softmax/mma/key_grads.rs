//! The keys' gradients on their way out.

use cubecl::prelude::*;

use crate::{
    softmax::{
        args::{Blueprint, Sizes},
        rows::OwnedRows,
    },
    tile::{Aside, Sums, store_sums},
};

/// Writes the keys' gradients of one head.
#[cube]
pub(super) fn store_keys<E: Float, N: Size, C: Size, O: Size>(
    key_grads: &Array<Vector<f32, C>>,
    target: &mut [Vector<E, O>],
    own: &OwnedRows,
    key_head: usize,
    sizes: &Sizes,
    aside: &Aside<N>,
    #[comptime] layout: Sums,
    #[comptime] blueprint: Blueprint,
) {
    let tile = comptime!(blueprint.tile);
    let mut scales = Array::<Vector<f32, N>>::new(tile.groups);
    #[unroll]
    for g in 0..tile.groups {
        scales[g] = Vector::new(sizes.scale);
    }
    let kv_heads = sizes.heads / blueprint.group;
    store_sums::<E, N, C, O>(
        key_grads,
        &scales,
        target,
        &own.rows,
        (own.batch * kv_heads + key_head) * sizes.seq_kv,
        sizes.seq_kv,
        aside,
        layout,
        tile,
    );
}
