//! From a product to a score: softcap, bias, masks. Shared by every kernel of exact attention.

use cubecl::prelude::*;

use super::{
    args::{Blueprint, ScoreTable},
    exponential::{exp_difference, tanh},
};
use crate::tile::slot_token;

/// A score at or below this is hidden: it takes no part in the softmax, exactly.
pub(crate) const HIDDEN: f32 = f32::MIN;

/// `softcap * tanh(score / softcap)`
#[cube]
pub(crate) fn capped<N: Size>(
    score: Vector<f32, N>,
    softcap: f32,
    #[comptime] blueprint: Blueprint,
) -> Vector<f32, N> {
    let cap = Vector::new(softcap);
    tanh::<N>(score / cap, blueprint.exponential) * cap
}

/// `exp(score - reference)`, and exactly 0 for a hidden score, also where the reference is that of
/// a row that has seen no key yet: the floor keeps the exponent of a hidden score out of range.
#[cube]
pub(crate) fn weight<N: Size>(
    score: Vector<f32, N>,
    reference: Vector<f32, N>,
    #[comptime] blueprint: Blueprint,
) -> Vector<f32, N> {
    let floor = Vector::new(f32::new(comptime!(HIDDEN / 2.0)));
    exp_difference::<N>(score, max(reference, floor), blueprint.exponential)
}

/// [`capped`] for a block of products, in place; `gradients` are multiplied by its derivative.
#[cube]
pub(crate) fn cap_with_slope<N: Size>(
    products: &mut Array<Vector<f32, N>>,
    gradients: &mut Array<Vector<f32, N>>,
    softcap: f32,
    #[comptime] blueprint: Blueprint,
) {
    let tile = comptime!(blueprint.tile);
    if comptime!(blueprint.softcap) {
        #[unroll(tile.unroll)]
        for slot in 0..comptime!(tile.slots() * tile.groups) {
            let score = capped::<N>(products[slot], softcap, blueprint);
            let ratio = score / Vector::new(softcap);
            gradients[slot] *= Vector::new(1.0f32) - ratio * ratio;
            products[slot] = score;
        }
    }
}

/// Where each lane reads its mask or bias: lanes along the queries, or along the keys.
#[derive(CubeType)]
pub(crate) struct LaneTable<T: Numeric> {
    table: ScoreTable<T>,
    lanes: Array<usize>,
    token_stride: usize,
}

#[cube]
impl<T: Numeric> LaneTable<T> {
    /// Lanes are queries, tokens are keys.
    pub fn along_queries(
        table: ScoreTable<T>,
        rows: &Array<usize>,
        #[comptime] count: usize,
        length: usize,
    ) -> LaneTable<T> {
        let lanes = lane_offsets(rows, count, table.query, length);
        let token_stride = table.key;
        LaneTable::<T> {
            table,
            lanes,
            token_stride,
        }
    }

    /// Lanes are keys, tokens are queries.
    pub fn along_keys(
        table: ScoreTable<T>,
        rows: &Array<usize>,
        #[comptime] count: usize,
        length: usize,
    ) -> LaneTable<T> {
        let lanes = lane_offsets(rows, count, table.key, length);
        let token_stride = table.query;
        LaneTable::<T> {
            table,
            lanes,
            token_stride,
        }
    }

    /// The lanes' entries for one token of one head.
    pub fn read<N: Size>(
        &self,
        batch: usize,
        head: usize,
        token: usize,
        #[comptime] group: usize,
        #[comptime] uniform: bool,
    ) -> Vector<f32, N> {
        let lanes = N::value();
        let start = batch * self.table.batch + head * self.table.head + token * self.token_stride;
        let first = self.table.data[start + self.lanes[comptime!(group * lanes)]];
        let mut values = Vector::<f32, N>::new(f32::cast_from(first));
        if comptime!(!uniform) {
            #[unroll]
            for lane in 1..lanes {
                let entry = self.table.data[start + self.lanes[comptime!(group * lanes + lane)]];
                values.insert(lane, f32::cast_from(entry));
            }
        }
        values
    }
}

#[cube]
fn lane_offsets(
    rows: &Array<usize>,
    #[comptime] count: usize,
    stride: usize,
    length: usize,
) -> Array<usize> {
    let mut offsets = Array::<usize>::new(count);
    #[unroll]
    for slot in 0..count {
        offsets[slot] = min(rows[slot], length - 1) * stride;
    }
    offsets
}

/// The bias and the mask of one unit's lanes.
#[derive(CubeType)]
pub(crate) struct ScoreTables<E: Float, M: Numeric> {
    pub mask: ComptimeOption<LaneTable<M>>,
    pub bias: ComptimeOption<LaneTable<E>>,
}

#[cube]
impl<E: Float, M: Numeric> ScoreTables<E, M> {
    /// [`Self::apply_token`] to a block of scores, in place; `last` is the last token that exists.
    pub fn apply<N: Size>(
        &self,
        scores: &mut Array<Vector<f32, N>>,
        batch: usize,
        head: usize,
        first: usize,
        last: usize,
        #[comptime] blueprint: Blueprint,
    ) {
        let tile = comptime!(blueprint.tile);
        let groups = comptime!(tile.groups);
        if comptime!(blueprint.mask || blueprint.bias) {
            #[unroll(tile.unroll)]
            for t in 0..comptime!(tile.slots()) {
                let token = min(slot_token(first, t, tile), last);
                #[unroll]
                for g in 0..groups {
                    let slot = t * groups + g;
                    scores[slot] =
                        self.apply_token::<N>(scores[slot], batch, head, token, g, blueprint);
                }
            }
        }
    }

    /// Adds the bias and hides what the mask hides, for one token of one head.
    fn apply_token<N: Size>(
        &self,
        score: Vector<f32, N>,
        batch: usize,
        head: usize,
        token: usize,
        #[comptime] g: usize,
        #[comptime] blueprint: Blueprint,
    ) -> Vector<f32, N> {
        let mut result = score;
        #[comptime]
        match &self.bias {
            ComptimeOption::Some(bias) => {
                result += bias.read::<N>(batch, head, token, g, blueprint.bias_uniform);
            }
            ComptimeOption::None => {}
        }
        #[comptime]
        match &self.mask {
            ComptimeOption::Some(mask) => {
                let hidden = mask
                    .read::<N>(batch, head, token, g, blueprint.mask_uniform)
                    .not_equal(&Vector::new(0.0f32));
                result = select_many(hidden, Vector::new(f32::new(HIDDEN)), result);
            }
            ComptimeOption::None => {}
        }
        result
    }
}
