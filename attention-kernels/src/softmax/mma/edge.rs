//! The steps at the edge of what queries see.

use cubecl::prelude::*;

use crate::{
    softmax::{
        args::{Blueprint, Sizes},
        score::HIDDEN,
    },
    tile::{group_offset, slot_offset, slots_start},
};

/// Hides the keys of the step that begins at `token` that a query does not see, in place; `row` is the
/// lane's first query. Kept in few registers: [`QueryWalk`](crate::softmax::query_walk::QueryWalk) would
/// hold how far each query sees.
#[cube]
pub(super) fn hide_unseen<N: Size>(
    scores: &mut Array<Vector<f32, N>>,
    row: usize,
    token: usize,
    sizes: &Sizes,
    #[comptime] blueprint: Blueprint,
) {
    let tile = comptime!(blueprint.tile);
    let groups = comptime!(tile.groups);
    let first = (token + slots_start(tile)) as i32;
    let left = sizes.seq_kv as i32 - first;
    let reach = if comptime!(blueprint.causal) {
        (row + 1 + sizes.ahead) as i32 - sizes.behind as i32 - first
    } else {
        left
    };
    #[unroll]
    for g in 0..groups {
        let seen = if comptime!(blueprint.causal) {
            min(left, reach + group_offset(g, tile) as i32)
        } else {
            left
        };
        #[unroll]
        for slot in 0..comptime!(tile.slots()) {
            let at = slot * groups + g;
            let hidden = slot_offset(slot, tile) as i32 >= seen;
            let score = scores[at].extract(0usize);
            scores[at] = Vector::new(select(hidden, f32::new(HIDDEN), score));
        }
    }
}
