//! Lanes own keys and walk over the queries.

use cubecl::prelude::*;

use super::{
    args::{Blueprint, ScoreTable, Sizes},
    modify::{LaneAxis, Modifier},
    rows::{OwnedRows, first_query, visible_keys},
    score::{HIDDEN, LaneTable, ScoreTables, cap_with_slope, capped},
};
use crate::{
    block_map::{BlockList, Step, Steps},
    modification::{CapturedData, Code},
    tile::{Spread, slot_offset, slots_start},
};

/// What one unit knows of the score matrix while its keys walk over the queries.
#[derive(CubeType)]
pub(crate) struct KeyWalk<E: Float, M: Numeric, N: Size> {
    tables: ScoreTables<E, M>,
    modifier: Modifier<N>,
    /// The first query that sees a key: none for a key that does not exist.
    from: Array<Vector<u32, N>>,
    batch: usize,
    first: usize,
    /// One past the last key of the tile.
    end: usize,
}

#[cube]
impl<E: Float, M: Numeric, N: Size> KeyWalk<E, M, N> {
    pub fn new(
        own: &OwnedRows,
        mask: ComptimeOption<ScoreTable<M>>,
        bias: ComptimeOption<ScoreTable<E>>,
        captured: &CapturedData,
        sizes: &Sizes,
        #[comptime] code: Code,
        #[comptime] blueprint: Blueprint,
    ) -> KeyWalk<E, M, N> {
        let lanes = N::value();
        let groups = comptime!(blueprint.tile.groups);
        let count = comptime!(groups * lanes);
        let mut from = Array::<Vector<u32, N>>::new(groups);
        let rows = &own.rows;
        if comptime!(lanes == 1) {
            #[unroll]
            for g in 0..groups {
                let query = query_of(rows[g], sizes, blueprint.causal);
                from[g] = Vector::new(query as u32);
            }
        } else {
            let elements = from.with_vector_size_mut::<Const<1>>();
            for slot in 0..count {
                let query = query_of(rows[slot], sizes, blueprint.causal);
                elements[slot] = Vector::new(query as u32);
            }
        }
        let mask =
            mask.map(|table| LaneTable::<M>::along_keys(table, &own.rows, count, sizes.seq_kv));
        let bias =
            bias.map(|table| LaneTable::<E>::along_keys(table, &own.rows, count, sizes.seq_kv));
        let modifier = Modifier::<N>::new(
            &own.rows,
            sizes.seq_kv,
            own.batch,
            captured,
            LaneAxis::Keys,
            code,
            groups,
        );
        KeyWalk::<E, M, N> {
            tables: ScoreTables::<E, M> { mask, bias },
            modifier,
            from,
            batch: own.batch,
            first: own.first,
            end: own.end,
        }
    }

    /// The steps over the queries of a head that see the keys: all, or those of a map.
    pub fn steps(
        &self,
        list: &ComptimeOption<BlockList>,
        head: usize,
        sizes: &Sizes,
        #[comptime] blueprint: Blueprint,
    ) -> Steps {
        Steps::new(
            list,
            self.batch,
            head,
            self.first,
            first_query(self.first, sizes, blueprint.causal),
            sizes.seq_q,
            blueprint.blocks,
            blueprint.tile.block,
        )
    }

    /// Softcaps and modifies a block of products, in place.
    pub fn modify(
        &self,
        scores: &mut Array<Vector<f32, N>>,
        head: usize,
        token: usize,
        sizes: &Sizes,
        #[comptime] blueprint: Blueprint,
    ) {
        let tile = comptime!(blueprint.tile);
        if comptime!(blueprint.softcap) {
            #[unroll(tile.unroll)]
            for slot in 0..comptime!(tile.slots() * tile.groups) {
                scores[slot] = capped::<N>(scores[slot], sizes.softcap, blueprint);
            }
        }
        self.modifier
            .modify(scores, head, token, sizes.seq_q - 1, tile);
    }

    /// Softcaps and modifies a block of products, in place; `gradients` are multiplied by the
    /// derivative.
    pub fn modify_with_slope(
        &self,
        scores: &mut Array<Vector<f32, N>>,
        gradients: &mut Array<Vector<f32, N>>,
        head: usize,
        token: usize,
        sizes: &Sizes,
        #[comptime] blueprint: Blueprint,
    ) {
        cap_with_slope::<N>(scores, gradients, sizes.softcap, blueprint);
        self.modifier.modify_with_slope(
            scores,
            gradients,
            head,
            token,
            sizes.seq_q - 1,
            blueprint.tile,
        );
    }

    /// Multiplies a block by the factors of its probabilities, in place.
    pub fn reweigh(
        &self,
        weights: &mut Array<Vector<f32, N>>,
        head: usize,
        token: usize,
        sizes: &Sizes,
        #[comptime] blueprint: Blueprint,
    ) {
        let last = sizes.seq_q - 1;
        self.modifier
            .reweigh(weights, head, token, last, blueprint.tile);
    }

    /// Adds the bias to a block of scores and hides what is masked, in place.
    pub fn hide(
        &self,
        scores: &mut Array<Vector<f32, N>>,
        head: usize,
        step: Step,
        sizes: &Sizes,
        #[comptime] blueprint: Blueprint,
    ) {
        let token = step.token;
        let tile = comptime!(blueprint.tile);
        let groups = comptime!(tile.groups);
        self.tables
            .apply::<N>(scores, self.batch, head, token, sizes.seq_q - 1, blueprint);
        self.modifier
            .hide(scores, head, step, sizes.seq_q - 1, blueprint);
        let whole = token + comptime!(tile.block) <= sizes.seq_q
            && self.end <= visible_keys(token, sizes, blueprint.causal);
        if !whole {
            // Which tokens, from the lane's first on, see a key: compared with constants.
            let first = token + slots_start(tile);
            let end = Vector::<u32, N>::new((max(sizes.seq_q, first) - first) as u32);
            let first = Vector::<u32, N>::new(first as u32);
            // To matrix instructions a query that does not exist weighs nothing: its numbers say so.
            let ends = comptime!(matches!(tile.spread, Spread::Lane | Spread::Runs { .. }));
            #[unroll]
            for g in 0..groups {
                let start = max(self.from[g], first) - first;
                #[unroll(tile.unroll)]
                for t in 0..comptime!(tile.slots()) {
                    let offset = Vector::<u32, N>::new(slot_offset(t, tile) as u32);
                    let early = offset.less_than(&start);
                    let hidden = if ends {
                        early.or(offset.greater_equal(&end))
                    } else {
                        early
                    };
                    let slot = t * groups + g;
                    scores[slot] = select_many(hidden, Vector::new(f32::new(HIDDEN)), scores[slot]);
                }
            }
        }
    }
}

/// The first query that sees a key: none, for a key that does not exist.
#[cube]
fn query_of(key: usize, sizes: &Sizes, #[comptime] causal: bool) -> usize {
    let query = first_query(key, sizes, causal);
    select(key < sizes.seq_kv, query, sizes.seq_q)
}
