//! The caller's functions on blocks of scores. Shared by every kernel of exact attention.

use cubecl::prelude::*;

use super::{args::Blueprint, score::HIDDEN};
use crate::{
    block_map::Step,
    modification::{CapturedData, Code, Place, in_lanes, modified, reweighed, slope, visible},
    tile::{RowTile, slot_token},
};

/// What lies along the lanes; the tokens are the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum LaneAxis {
    Queries,
    Keys,
}

/// What becomes of the numbers of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Change {
    /// Scores are modified.
    Modify,
    /// Scores that the mask does not show are hidden.
    Hide,
    /// Probabilities, or their gradients, are multiplied by their factors.
    Reweigh,
}

/// What one unit needs to run the caller's functions on its scores.
#[derive(CubeType)]
pub(crate) struct Modifier<N: Size> {
    lanes: Array<Vector<u32, N>>,
    captured: CapturedData,
    batch: usize,
    #[cube(comptime)]
    axis: LaneAxis,
    #[cube(comptime)]
    code: Code,
}

#[cube]
impl<N: Size> Modifier<N> {
    /// For lanes that own `rows` of a sequence of `length`.
    pub fn new(
        rows: &Array<usize>,
        length: usize,
        batch: usize,
        captured: &CapturedData,
        #[comptime] axis: LaneAxis,
        #[comptime] code: Code,
        #[comptime] groups: usize,
    ) -> Modifier<N> {
        let width = N::value();
        let mut lanes = Array::<Vector<u32, N>>::new(groups);
        if comptime!(width == 1) {
            #[unroll]
            for g in 0..groups {
                lanes[g] = Vector::new(min(rows[g], length - 1) as u32);
            }
        } else {
            let elements = lanes.with_vector_size_mut::<Const<1>>();
            for slot in 0..comptime!(groups * width) {
                elements[slot] = Vector::new(min(rows[slot], length - 1) as u32);
            }
        }
        Modifier::<N> {
            lanes,
            captured: captured.clone(),
            batch,
            axis,
            code,
        }
    }

    /// Modifies a block of scores, in place; `last` is the last token that exists.
    pub fn modify(
        &self,
        scores: &mut Array<Vector<f32, N>>,
        head: usize,
        first: usize,
        last: usize,
        #[comptime] tile: RowTile,
    ) {
        if comptime!(self.code.modifies()) {
            self.change(scores, head, first, last, tile, Change::Modify);
        }
    }

    /// [`Self::modify`]; `gradients` are multiplied by the derivative.
    pub fn modify_with_slope(
        &self,
        scores: &mut Array<Vector<f32, N>>,
        gradients: &mut Array<Vector<f32, N>>,
        head: usize,
        first: usize,
        last: usize,
        #[comptime] tile: RowTile,
    ) {
        let code = comptime!(self.code.clone());
        let groups = comptime!(tile.groups);
        if comptime!(code.bends()) {
            #[unroll(tile.unroll)]
            for t in 0..comptime!(tile.slots()) {
                #[unroll]
                for g in 0..groups {
                    let at = self.place(head, min(slot_token(first, t, tile), last), g);
                    let slot = t * groups + g;
                    gradients[slot] *=
                        slope::<N>(scores[slot], &at, &self.captured, comptime!(code.clone()));
                }
            }
        }
        self.modify(scores, head, first, last, tile);
    }

    /// Multiplies a block by the factors of its probabilities, in place.
    pub fn reweigh(
        &self,
        weights: &mut Array<Vector<f32, N>>,
        head: usize,
        first: usize,
        last: usize,
        #[comptime] tile: RowTile,
    ) {
        if comptime!(self.code.reweighs()) {
            self.change(weights, head, first, last, tile, Change::Reweigh);
        }
    }

    #[allow(
        clippy::if_same_then_else,
        reason = "without a map, there is nothing to ask when the kernel runs"
    )]
    /// Hides what the mask hides of a block of scores, in place; a step that the map calls full is
    /// left as it is.
    pub fn hide(
        &self,
        scores: &mut Array<Vector<f32, N>>,
        head: usize,
        step: Step,
        last: usize,
        #[comptime] blueprint: Blueprint,
    ) {
        let tile = comptime!(blueprint.tile);
        if comptime!(self.code.masks()) {
            if comptime!(blueprint.blocks.is_none()) {
                self.change(scores, head, step.token, last, tile, Change::Hide);
            } else if step.full == 0 {
                self.change(scores, head, step.token, last, tile, Change::Hide);
            }
        }
    }

    /// Changes every number of a block, in place.
    fn change(
        &self,
        block: &mut Array<Vector<f32, N>>,
        head: usize,
        first: usize,
        last: usize,
        #[comptime] tile: RowTile,
        #[comptime] change: Change,
    ) {
        let code = comptime!(self.code.clone());
        let groups = comptime!(tile.groups);
        #[unroll(tile.unroll)]
        for t in 0..comptime!(tile.slots()) {
            #[unroll]
            for g in 0..groups {
                let at = self.place(head, min(slot_token(first, t, tile), last), g);
                let slot = t * groups + g;
                let captured = &self.captured;
                let code = comptime!(code.clone());
                let hidden = Vector::new(f32::new(HIDDEN));
                block[slot] = if comptime!(change == Change::Modify) {
                    // A function may hide a key with minus infinity, whose exponential is not
                    // asked for.
                    max(modified::<N>(block[slot], &at, captured, code), hidden)
                } else if comptime!(change == Change::Hide) {
                    let seen = visible::<N>(&at, captured, code);
                    select_many(seen, block[slot], hidden)
                } else {
                    reweighed::<N>(block[slot], &at, captured, code)
                };
            }
        }
    }

    /// Where the lanes of a group meet a token.
    pub fn place(&self, head: usize, token: usize, #[comptime] g: usize) -> Place {
        let lanes = in_lanes::<u32, N>(self.lanes[g]);
        let token = in_lanes::<u32, N>(Vector::new(token as u32));
        let batch = self.batch as u32;
        let head = head as u32;
        if comptime!(self.axis == LaneAxis::Queries) {
            Place {
                batch,
                head,
                query: lanes,
                key: token,
            }
        } else {
            Place {
                batch,
                head,
                query: token,
                key: lanes,
            }
        }
    }
}
