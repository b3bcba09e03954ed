//! Queries that walk over the keys, with their log-sum-exp.

use cubecl::prelude::*;

use super::super::{
    args::{Blueprint, Layout, ScoreTable, Sizes},
    query_walk::QueryWalk,
    rows::{OwnedRows, key_head},
    score::HIDDEN,
};
use crate::{
    block_map::Step,
    modification::{CapturedData, Code},
    tile::{Stream, block_products},
};

/// The queries of a unit and the keys that they meet.
#[derive(CubeType)]
pub(super) struct QueryLanes<E: Float, M: Numeric, N: Size, R: Size> {
    walk: QueryWalk<E, M, N>,
    queries: Array<Vector<f32, R>>,
    keys: Stream,
    /// What scores are compared with: the LSE, or for a row without keys a number that leaves its
    /// hidden scores without weight.
    pub reference: Array<Vector<f32, N>>,
    /// The head's first row among the rows of all heads.
    pub first: usize,
    /// The keys from here on are seen by no query of the unit's tile.
    pub end: usize,
}

#[cube]
impl<E: Float, M: Numeric, N: Size, R: Size> QueryLanes<E, M, N, R> {
    pub fn new<W: Size>(
        own: &OwnedRows,
        query: &[Vector<E, W>],
        lse: &[f32],
        mask: ComptimeOption<ScoreTable<M>>,
        bias: ComptimeOption<ScoreTable<E>>,
        query_layout: &Layout,
        key_layout: &Layout,
        captured: &CapturedData,
        sizes: &Sizes,
        #[comptime] code: Code,
        #[comptime] blueprint: Blueprint,
    ) -> QueryLanes<E, M, N, R> {
        let lanes = N::value();
        let groups = comptime!(blueprint.tile.groups);
        let walk = QueryWalk::<E, M, N>::new(own, mask, bias, captured, sizes, code, blueprint);
        let queries = own.load::<E, N, R, W>(
            query,
            query_layout,
            sizes.seq_q,
            blueprint.head_dim,
            blueprint.tile,
        );
        let keys = Stream::of(
            key_layout,
            own.batch,
            key_head(own.head, blueprint),
            sizes.seq_kv - 1,
        );
        let first = (own.batch * sizes.heads + own.head) * sizes.seq_q;
        let floor = Vector::<f32, N>::new(f32::new(comptime!(HIDDEN / 2.0)));
        let mut reference = Array::<Vector<f32, N>>::new(groups);
        #[unroll]
        for g in 0..groups {
            let mut values = floor;
            #[unroll]
            for lane in 0..lanes {
                let row = min(own.rows[comptime!(g * lanes + lane)], sizes.seq_q - 1);
                values.insert(lane, lse[first + row]);
            }
            reference[g] = max(values, floor);
        }
        let end = walk.end;
        QueryLanes::<E, M, N, R> {
            walk,
            queries,
            keys,
            reference,
            first,
            end,
        }
    }

    /// The scores of a block of keys.
    pub fn scores<W: Size>(
        &self,
        key: &[Vector<E, W>],
        token: usize,
        scores: &mut Array<Vector<f32, N>>,
        sizes: &Sizes,
        #[comptime] blueprint: Blueprint,
    ) {
        block_products::<E, N, R, W>(
            &self.queries,
            key,
            &self.keys,
            token,
            scores,
            sizes.scale,
            blueprint.head_dim,
            blueprint.tile,
        );
        self.walk.modify(scores, token, sizes, blueprint);
        self.walk
            .hide(scores, Step::tested(token), sizes, blueprint);
    }
}
