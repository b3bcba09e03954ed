//! Lanes own queries and walk over the keys: what the forward, the query backward and the bias
//! backward share.

use cubecl::prelude::*;

use super::{
    args::{Blueprint, ScoreTable, Sizes},
    modify::{LaneAxis, Modifier},
    rows::{OwnedRows, visible_keys},
    score::{HIDDEN, LaneTable, ScoreTables, cap_with_slope, capped},
};
use crate::{
    block_map::{BlockList, Step, Steps},
    modification::{CapturedData, Code},
    tile::{RowTile, slot_offset, slots_start},
};

/// What one unit knows of the score matrix while its queries walk over the keys.
#[derive(CubeType)]
pub(crate) struct QueryWalk<E: Float, M: Numeric, N: Size> {
    tables: ScoreTables<E, M>,
    pub modifier: Modifier<N>,
    visible: Array<Vector<u32, N>>,
    batch: usize,
    head: usize,
    first: usize,
    /// The keys below are seen by every query of the tile.
    whole: usize,
    /// The keys from here on are seen by no query of the tile.
    pub end: usize,
}

#[cube]
impl<E: Float, M: Numeric, N: Size> QueryWalk<E, M, N> {
    pub fn new(
        own: &OwnedRows,
        mask: ComptimeOption<ScoreTable<M>>,
        bias: ComptimeOption<ScoreTable<E>>,
        captured: &CapturedData,
        sizes: &Sizes,
        #[comptime] code: Code,
        #[comptime] blueprint: Blueprint,
    ) -> QueryWalk<E, M, N> {
        let lanes = N::value();
        let groups = comptime!(blueprint.tile.groups);
        let count = comptime!(groups * lanes);
        let mut visible = Array::<Vector<u32, N>>::new(groups);
        let rows = &own.rows;
        if comptime!(lanes == 1) {
            #[unroll]
            for g in 0..groups {
                let keys = visible_keys(rows[g], sizes, blueprint.causal);
                visible[g] = Vector::new(keys as u32);
            }
        } else {
            let elements = visible.with_vector_size_mut::<Const<1>>();
            for slot in 0..count {
                let keys = visible_keys(rows[slot], sizes, blueprint.causal);
                elements[slot] = Vector::new(keys as u32);
            }
        }
        let mask =
            mask.map(|table| LaneTable::<M>::along_queries(table, &own.rows, count, sizes.seq_q));
        let bias =
            bias.map(|table| LaneTable::<E>::along_queries(table, &own.rows, count, sizes.seq_q));
        let modifier = Modifier::<N>::new(
            &own.rows,
            sizes.seq_q,
            own.batch,
            captured,
            LaneAxis::Queries,
            code,
            groups,
        );
        QueryWalk::<E, M, N> {
            tables: ScoreTables::<E, M> { mask, bias },
            modifier,
            visible,
            batch: own.batch,
            head: own.head,
            first: own.first,
            whole: visible_keys(own.first, sizes, blueprint.causal),
            end: visible_keys(own.end - 1, sizes, blueprint.causal),
        }
    }

    /// The steps over the keys that the queries see: all, or those of a map.
    pub fn steps(
        &self,
        list: &ComptimeOption<BlockList>,
        #[comptime] blueprint: Blueprint,
    ) -> Steps {
        self.steps_between(list, 0usize.runtime(), self.end, blueprint)
    }

    /// [`Self::steps`] over the keys from `start` to `end`.
    pub fn steps_between(
        &self,
        list: &ComptimeOption<BlockList>,
        start: usize,
        end: usize,
        #[comptime] blueprint: Blueprint,
    ) -> Steps {
        Steps::new(
            list,
            self.batch,
            self.head,
            self.first,
            start,
            min(end, self.end),
            blueprint.blocks,
            blueprint.tile.block,
        )
    }

    /// Softcaps and modifies a block of products, in place.
    pub fn modify(
        &self,
        scores: &mut Array<Vector<f32, N>>,
        token: usize,
        sizes: &Sizes,
        #[comptime] blueprint: Blueprint,
    ) {
        self.cap(scores, sizes, blueprint);
        self.modifier
            .modify(scores, self.head, token, sizes.seq_kv - 1, blueprint.tile);
    }

    /// Softcaps a block of products, in place.
    pub fn cap(
        &self,
        scores: &mut Array<Vector<f32, N>>,
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
    }

    /// [`Self::modify`]; `gradients` are multiplied by the derivative.
    pub fn modify_with_slope(
        &self,
        scores: &mut Array<Vector<f32, N>>,
        gradients: &mut Array<Vector<f32, N>>,
        token: usize,
        sizes: &Sizes,
        #[comptime] blueprint: Blueprint,
    ) {
        cap_with_slope::<N>(scores, gradients, sizes.softcap, blueprint);
        self.modifier.modify_with_slope(
            scores,
            gradients,
            self.head,
            token,
            sizes.seq_kv - 1,
            blueprint.tile,
        );
    }

    /// Multiplies a block by the factors of its probabilities, in place.
    pub fn reweigh(
        &self,
        weights: &mut Array<Vector<f32, N>>,
        token: usize,
        sizes: &Sizes,
        #[comptime] blueprint: Blueprint,
    ) {
        self.modifier
            .reweigh(weights, self.head, token, sizes.seq_kv - 1, blueprint.tile);
    }

    /// Adds the bias to a block of scores and hides what is masked, in place.
    pub fn hide(
        &self,
        scores: &mut Array<Vector<f32, N>>,
        step: Step,
        sizes: &Sizes,
        #[comptime] blueprint: Blueprint,
    ) {
        let token = step.token;
        let tile = comptime!(blueprint.tile);
        self.tables.apply::<N>(
            scores,
            self.batch,
            self.head,
            token,
            sizes.seq_kv - 1,
            blueprint,
        );
        self.modifier
            .hide(scores, self.head, step, sizes.seq_kv - 1, blueprint);
        if token + comptime!(tile.block) > self.whole {
            // How many tokens, from the lane's first on, a query sees: compared with constants.
            let first = Vector::<u32, N>::new((token + slots_start(tile)) as u32);
            #[unroll]
            for g in 0..comptime!(tile.groups) {
                let seen = max(self.visible[g], first) - first;
                #[unroll(tile.unroll)]
                for t in 0..comptime!(tile.slots()) {
                    let offset = Vector::<u32, N>::new(slot_offset(t, tile) as u32);
                    let slot = t * comptime!(tile.groups) + g;
                    scores[slot] = select_many(
                        offset.greater_equal(&seen),
                        Vector::new(f32::new(HIDDEN)),
                        scores[slot],
                    );
                }
            }
        }
    }

    /// How many steps there are, from the one at `start`, whose keys every query of the tile sees.
    pub fn whole_steps(&self, start: usize, #[comptime] tile: RowTile) -> usize {
        (max(self.whole, start) - start) / comptime!(tile.block)
    }
}
