//! `delta` of the rows of a backward on matrix instructions.

use cubecl::prelude::*;

use crate::{
    softmax::{
        args::{Blueprint, Layout, Sizes},
        delta::{DELTA, STATS},
        rows::{own_rows, tile_index},
    },
    tile::{Rows, as_laid_out, has_row_products, packed, row_products},
};

/// Adds to `delta` in `stats` the sums that the instructions of `dO V^T` give: they add and round
/// in an order of their own, and where a row attends to a single key the two have to cancel.
#[cube(launch_unchecked, address_type = "dynamic")]
pub(crate) fn matrix_delta<E: Float, P: Size, N: Size, R: Size, C: Size>(
    out: &[Vector<E, P>],
    grad_out: &[Vector<E, P>],
    stats: &mut [f32],
    out_layout: Layout,
    grad_layout: Layout,
    sizes: Sizes,
    #[comptime] blueprint: Blueprint,
    #[define(E)] _operand_dtype: ElemType,
) {
    let out_layout = packed(&out_layout, blueprint.packed);
    let grad_layout = packed(&grad_layout, blueprint.packed);
    let tile = as_laid_out(blueprint.tile);
    let blueprint = comptime!(Blueprint { tile, ..blueprint });
    let own = own_rows::<N>(tile_index(blueprint), sizes.seq_q, blueprint);
    let dim = comptime!(tile.held(blueprint.value_dim));
    let mut outs = Rows::<E, R>::new(dim, blueprint.units, tile);
    outs.load::<P>(
        out,
        &out_layout,
        own.batch,
        own.head,
        &own.rows,
        sizes.seq_q,
    );
    let mut grads = Rows::<E, R>::new(dim, blueprint.units, tile);
    grads.load::<P>(
        grad_out,
        &grad_layout,
        own.batch,
        own.head,
        &own.rows,
        sizes.seq_q,
    );
    let products = row_products::<E, N, R, C>(&grads, &outs, blueprint.value_dim, tile);
    let first = (own.batch * sizes.heads + own.head) * sizes.seq_q;
    if has_row_products(tile) {
        #[unroll]
        for g in 0..comptime!(tile.groups) {
            let row = own.rows[g];
            if row < sizes.seq_q {
                let at = (first + row) * STATS;
                stats[at + DELTA] += products[g].extract(0usize);
            }
        }
    }
}
