//! Online softmax over rows that several lanes share.

use cubecl::prelude::*;

use crate::{
    exp2::exp2,
    softmax::score::HIDDEN,
    tile::{Aside, RowTile, Sums, row_highest, row_total, scale_sums},
};

/// A row's highest score may grow by this power of two before its sums are scaled to it: weights
/// stay below 256, and most steps rescale nothing (FlashAttention-4).
const SLACK: f32 = 8.0;

/// What the scores of a kernel are, beside those of the formula.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Scores {
    /// The formula's.
    Scaled,
    /// Products without the scale, which joins the exponent's own factor: nothing else happens to
    /// them, and the scale is positive.
    Products,
}

impl Scores {
    /// Below every score that is not hidden; times the exponent's factor still a number.
    fn floor(self) -> f32 {
        match self {
            Self::Scaled => HIDDEN / 2.0,
            Self::Products => -1e30,
        }
    }
}

/// From a kernel's score to the formula's.
#[cube]
fn natural_factor(scale: f32, #[comptime] scores: Scores) -> f32 {
    match comptime!(scores) {
        Scores::Scaled => f32::new(1.0),
        Scores::Products => scale,
    }
}

/// From a score to the exponent of 2.
#[cube]
fn exponent_factor(scale: f32, #[comptime] scores: Scores) -> f32 {
    let log2_e = f32::new(std::f32::consts::LOG2_E);
    match comptime!(scores) {
        Scores::Scaled => log2_e,
        Scores::Products => scale * log2_e,
    }
}

/// From scores to weights that refer to a row's log-sum-exp.
#[derive(CubeType, Clone, Copy)]
#[expand(derive(Clone))]
pub(super) struct Weights {
    factor: f32,
    /// Below the log-sum-exp of every row that has keys; that of one without is -inf.
    floor: f32,
    /// The base is 2 only after the subtraction: an error in the exponent is then that of a difference, and not
    /// of a score, which may be in the hundreds.
    #[cube(comptime)]
    late: bool,
}

#[cube]
impl Weights {
    pub fn new(scale: f32, #[comptime] scores: Scores, #[comptime] tile: RowTile) -> Weights {
        let late = comptime!(tile.terms > 1);
        let floor = f32::new(comptime!(scores.floor()));
        Weights {
            factor: if comptime!(late) {
                natural_factor(scale, scores)
            } else {
                exponent_factor(scale, scores)
            },
            floor: match comptime!(scores) {
                Scores::Scaled => floor,
                Scores::Products => floor * scale,
            },
            late,
        }
    }

    /// What the exponent of a row's scores is shifted by.
    pub fn shift(&self, lse: f32) -> f32 {
        let shift = -max(lse, self.floor);
        if comptime!(self.late) {
            shift
        } else {
            shift * f32::new(std::f32::consts::LOG2_E)
        }
    }

    /// Of a score whose row has this shift.
    pub fn of(&self, score: f32, shift: f32) -> f32 {
        let exponent = fma(score, self.factor, shift);
        if comptime!(self.late) {
            exp2(exponent * f32::new(std::f32::consts::LOG2_E))
        } else {
            exp2(exponent)
        }
    }
}

/// What products are multiplied by to be the kernel's scores.
#[cube]
pub(super) fn score_factor(scale: f32, #[comptime] scores: Scores) -> f32 {
    match comptime!(scores) {
        Scores::Scaled => scale,
        Scores::Products => f32::new(1.0),
    }
}

/// The rows of a lane.
#[derive(CubeType)]
pub(super) struct Softmax<N: Size> {
    /// What the exponents of a row are shifted by: a reference at most [`SLACK`] below its highest score, negated.
    shift: Array<Vector<f32, N>>,
    /// The sum of this lane's weights, where the sums do not count them.
    total: Array<Vector<f32, N>>,
    /// From a score to the exponent of 2.
    factor: f32,
    /// From a score to the formula's.
    natural: f32,
    /// Shifts are those of scores, not of exponents: the rounding of the factor would be another one for each.
    #[cube(comptime)]
    exact: bool,
    #[cube(comptime)]
    tile: RowTile,
}

#[cube]
impl<N: Size> Softmax<N> {
    pub fn new(scale: f32, #[comptime] scores: Scores, #[comptime] tile: RowTile) -> Softmax<N> {
        let exact = comptime!(tile.terms > 1);
        let factor = exponent_factor(scale, scores);
        let floor = f32::new(comptime!(scores.floor()));
        let floor = if comptime!(exact) {
            floor
        } else {
            floor * factor
        };
        let mut shift = Array::<Vector<f32, N>>::new(tile.groups);
        let mut total = Array::<Vector<f32, N>>::new(tile.groups);
        #[unroll]
        for g in 0..tile.groups {
            shift[g] = Vector::new(-floor);
            total[g] = Vector::new(0.0f32);
        }
        Softmax::<N> {
            shift,
            total,
            factor,
            natural: natural_factor(scale, scores),
            exact,
            tile,
        }
    }

    /// Scores of a step become weights; `sums` and what was set `aside` of them follow where a reference moves.
    pub fn soften<C: Size>(
        &mut self,
        scores: &mut Array<Vector<f32, N>>,
        sums: &mut Array<Vector<f32, C>>,
        aside: &mut Aside<N>,
        #[comptime] layout: Sums,
    ) {
        let tile = comptime!(self.tile);
        let groups = comptime!(tile.groups);
        let slots = comptime!(tile.slots());
        let mut highest = Array::<Vector<f32, N>>::new(groups);
        let mut growth = f32::new(0.0);
        #[unroll]
        for g in 0..groups {
            let mut own = scores[g];
            #[unroll]
            for slot in 1..slots {
                own = max(own, scores[slot * groups + g]);
            }
            let row = row_highest(own.extract(0usize), tile.spread);
            growth = max(growth, self.exponent(row, g));
            highest[g] = Vector::new(row);
        }
        if plane_any(growth > SLACK) {
            let mut decay = Array::<Vector<f32, N>>::new(groups);
            #[unroll]
            for g in 0..groups {
                let decayed = self.raise(highest[g], g);
                decay[g] = Vector::new(decayed);
                if comptime!(!layout.counts) {
                    self.total[g] *= decay[g];
                }
            }
            scale_sums::<N, C>(sums, &decay, layout, tile);
            aside.decay(&decay);
        }
        #[unroll]
        for g in 0..groups {
            // A sum over thousands of weights has shorter chains where each step has its own.
            let mut total = Vector::<f32, N>::new(0.0f32);
            #[unroll]
            for slot in 0..slots {
                let at = slot * groups + g;
                let weight = Vector::new(exp2(self.exponent(scores[at].extract(0usize), g)));
                scores[at] = weight;
                if comptime!(!layout.counts) {
                    total += weight;
                }
            }
            if comptime!(!layout.counts) {
                self.total[g] += total;
            }
        }
    }

    /// The exponent of 2 of a score of the `g`-th row.
    fn exponent(&self, score: f32, #[comptime] g: usize) -> f32 {
        let shift = self.shift[g].extract(0usize);
        if comptime!(self.exact) {
            (score + shift) * self.factor
        } else {
            fma(score, self.factor, shift)
        }
    }

    /// Raises the `g`-th row's reference to its highest score; gives what its sums decay by.
    fn raise(&mut self, highest: Vector<f32, N>, #[comptime] g: usize) -> f32 {
        let before = self.shift[g];
        let needed = if comptime!(self.exact) {
            -highest
        } else {
            -highest * Vector::new(self.factor)
        };
        self.shift[g] = min(before, needed);
        let moved = (self.shift[g] - before).extract(0usize);
        if comptime!(self.exact) {
            exp2(moved * self.factor)
        } else {
            exp2(moved)
        }
    }

    /// What every sum of a row is multiplied by in the end, and its log-sum-exp.
    pub fn finish<C: Size>(
        &self,
        sums: &Array<Vector<f32, C>>,
        neg_inf: f32,
        #[comptime] layout: Sums,
    ) -> (Array<Vector<f32, N>>, Array<f32>) {
        let groups = comptime!(self.tile.groups);
        let natural = if comptime!(self.exact) {
            self.natural
        } else {
            f32::new(std::f32::consts::LN_2)
        };
        let mut factors = Array::<Vector<f32, N>>::new(groups);
        let mut lse = Array::<f32>::new(groups);
        #[unroll]
        for g in 0..groups {
            let total = if comptime!(layout.counts) {
                sums[comptime!(layout.count(g, self.tile))].extract(0usize)
            } else {
                row_total(self.total[g].extract(0usize), self.tile.spread)
            };
            let empty = total == 0.0;
            let divisor = select(empty, 1.0, total);
            factors[g] = Vector::new(1.0 / divisor);
            let shift = self.shift[g].extract(0usize);
            lse[g] = select(empty, neg_inf, fma(-shift, natural, f32::ln(divisor)));
        }
        (factors, lse)
    }
}
