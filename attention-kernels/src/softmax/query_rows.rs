//! The queries of a unit in the backward, with all that belongs to them.

use cubecl::prelude::*;

use super::{
    args::{Blueprint, Layouts, Sizes},
    delta::{DELTA, LSE, lane_stats},
    query_walk::QueryWalk,
    rows::{OwnedRows, key_head, value_head},
};
use crate::tile::{Stream, block_products};

/// Rows of `Q` and `dO`, their statistics, and where the keys and values lie that they meet.
#[derive(CubeType)]
pub(crate) struct QueryRows<N: Size, R: Size, RV: Size> {
    queries: Array<Vector<f32, R>>,
    grads: Array<Vector<f32, RV>>,
    pub lse: Array<Vector<f32, N>>,
    pub delta: Array<Vector<f32, N>>,
    pub keys: Stream,
    values: Stream,
    /// The head's first row among the rows of all heads.
    pub first: usize,
}

#[cube]
impl<N: Size, R: Size, RV: Size> QueryRows<N, R, RV> {
    pub fn load<E: Float, W: Size, WV: Size>(
        own: &OwnedRows,
        query: &[Vector<E, W>],
        grad_out: &[Vector<E, WV>],
        stats: &[f32],
        layouts: &Layouts,
        sizes: &Sizes,
        #[comptime] blueprint: Blueprint,
    ) -> QueryRows<N, R, RV> {
        let tile = comptime!(blueprint.tile);
        let queries =
            own.load::<E, N, R, W>(query, &layouts.query, sizes.seq_q, blueprint.head_dim, tile);
        let grads = own.load::<E, N, RV, WV>(
            grad_out,
            &layouts.grad_out,
            sizes.seq_q,
            blueprint.value_dim,
            tile,
        );
        let first = (own.batch * sizes.heads + own.head) * sizes.seq_q;
        let kv_head = key_head(own.head, blueprint);
        let last = sizes.seq_kv - 1;
        QueryRows::<N, R, RV> {
            queries,
            grads,
            lse: lane_stats::<N>(stats, &own.rows, first, sizes.seq_q, LSE, tile.groups),
            delta: lane_stats::<N>(stats, &own.rows, first, sizes.seq_q, DELTA, tile.groups),
            keys: Stream::of(&layouts.key, own.batch, kv_head, last),
            values: Stream::of(
                &layouts.value,
                own.batch,
                value_head(kv_head, blueprint),
                last,
            ),
            first,
        }
    }

    /// `scale * Q K^T` and the gradients of the probabilities less `delta` for a block of keys.
    pub fn products<T: Float, E: Float, M: Numeric, W: Size, WV: Size>(
        &self,
        walk: &QueryWalk<T, M, N>,
        key: &[Vector<E, W>],
        value: &[Vector<E, WV>],
        token: usize,
        sizes: &Sizes,
        scores: &mut Array<Vector<f32, N>>,
        slopes: &mut Array<Vector<f32, N>>,
        #[comptime] blueprint: Blueprint,
    ) {
        let tile = comptime!(blueprint.tile);
        let groups = comptime!(tile.groups);
        block_products::<E, N, R, W>(
            &self.queries,
            key,
            &self.keys,
            token,
            scores,
            sizes.scale,
            blueprint.head_dim,
            tile,
        );
        block_products::<E, N, RV, WV>(
            &self.grads,
            value,
            &self.values,
            token,
            slopes,
            f32::new(1.0),
            blueprint.value_dim,
            tile,
        );
        walk.reweigh(slopes, token, sizes, blueprint);
        #[unroll(tile.unroll)]
        for t in 0..comptime!(tile.block) {
            #[unroll]
            for g in 0..groups {
                slopes[t * groups + g] -= self.delta[g];
            }
        }
    }
}
