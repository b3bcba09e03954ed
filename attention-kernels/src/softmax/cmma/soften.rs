//! Online softmax over a row that lanes of one plane share.

use cubecl::prelude::*;

use crate::{
    softmax::{
        args::Blueprint,
        exponential::exp_difference,
        score::{HIDDEN, weight},
    },
    tile::{PlaneTile, run_highest, run_total},
};

/// A row's highest score may grow by this before its sums are scaled to it: weights stay below 256, and
/// most steps rescale nothing (FlashAttention-4).
const SLACK: f32 = 8.0 * std::f32::consts::LN_2;

/// The row of a lane.
#[derive(CubeType)]
pub(super) struct RowSoftmax {
    /// What the exponents of the row refer to: at most [`SLACK`] below its highest score.
    reference: f32,
    /// The sum of this lane's weights.
    total: f32,
}

/// What a step does to the sums of a row.
#[derive(CubeType)]
pub(super) struct Rescale {
    /// Whether they change.
    pub moved: bool,
    /// What they are multiplied by.
    pub factor: f32,
}

#[cube]
impl RowSoftmax {
    pub fn new() -> RowSoftmax {
        RowSoftmax {
            reference: f32::new(comptime!(HIDDEN / 2.0)),
            total: f32::new(0.0),
        }
    }

    /// Scores of a step become weights.
    pub fn soften<N: Size>(
        &mut self,
        scores: &mut Array<Vector<f32, N>>,
        #[comptime] tile: PlaneTile,
        #[comptime] blueprint: Blueprint,
    ) -> Rescale {
        let slots = comptime!(tile.run());
        let mut own = scores[0].extract(0usize);
        #[unroll]
        for slot in 1..slots {
            own = max(own, scores[slot].extract(0usize));
        }
        let highest = run_highest(own, tile);
        let moved = highest - self.reference > f32::new(SLACK);
        let reference = select(moved, highest, self.reference);
        let factor = exp_difference::<N>(
            Vector::new(self.reference),
            Vector::new(reference),
            blueprint.exponential,
        )
        .extract(0usize);
        self.total *= factor;
        self.reference = reference;
        #[unroll]
        for slot in 0..slots {
            let weight = weight::<N>(scores[slot], Vector::new(reference), blueprint);
            scores[slot] = weight;
            self.total += weight.extract(0usize);
        }
        Rescale { moved, factor }
    }

    /// What every sum of the row is multiplied by in the end, and its log-sum-exp.
    pub fn finish(&self, neg_inf: f32, #[comptime] tile: PlaneTile) -> (f32, f32) {
        let total = run_total(self.total, tile);
        let empty = total == 0.0;
        let divisor = select(empty, 1.0, total);
        let lse = select(empty, neg_inf, self.reference + f32::ln(divisor));
        (1.0 / divisor, lse)
    }
}
