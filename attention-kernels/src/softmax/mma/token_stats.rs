//! What the key walk needs of a step's queries besides their vectors, on its way through shared memory.

use cubecl::prelude::*;

use super::soften::Weights;
use crate::{
    softmax::{
        delta::{DELTA, FACTOR, LSE},
        score::HIDDEN,
    },
    tile::{Arrival, RowTile, slot_offset, slots_start},
};

/// Bytes of shared memory that they take at most.
pub(super) fn stats_bytes(tile: RowTile) -> usize {
    2 * (2 + usize::from(corrects(tile))) * size_of::<f32>() * tile.block
}

/// Whether weights are corrected by what the query walk found their sum to be.
fn corrects(tile: RowTile) -> bool {
    tile.terms > 1
}

/// Fetched by a unit for each query, read by all.
#[derive(CubeType)]
pub(super) struct TokenStats<S: Size> {
    /// What the exponents of a query's scores are shifted by.
    shifts: Shared<[f32]>,
    deltas: Shared<[f32]>,
    /// What weights are multiplied by, where they are corrected.
    factors: ComptimeOption<Shared<[f32]>>,
    fetched: Array<Vector<f32, S>>,
    /// Where the place that is read from begins.
    start: usize,
    #[cube(comptime)]
    tile: RowTile,
    #[cube(comptime)]
    arrival: Arrival,
}

#[cube]
impl<S: Size> TokenStats<S> {
    pub fn new(#[comptime] tile: RowTile, #[comptime] arrival: Arrival) -> TokenStats<S> {
        let length = comptime!(arrival.places() * tile.block);
        let factors = if comptime!(corrects(tile)) {
            ComptimeOption::new_Some(Shared::<[f32]>::new_aligned_slice(length, 16usize))
        } else {
            ComptimeOption::new_None()
        };
        TokenStats::<S> {
            shifts: Shared::<[f32]>::new_aligned_slice(length, 16usize),
            deltas: Shared::<[f32]>::new_aligned_slice(length, 16usize),
            factors,
            fetched: Array::new(1usize),
            start: 0usize.runtime(),
            tile,
            arrival,
        }
    }

    /// Turns to this place, 0 or 1, where there are two.
    pub fn turn(&mut self, place: usize) {
        self.start = self.start_of(place);
    }

    fn start_of(&self, place: usize) -> usize {
        if comptime!(self.arrival == Arrival::CopiedBeside) {
            place * comptime!(self.tile.block)
        } else {
            0usize.runtime()
        }
    }

    /// Begins to load those from `token` on; `last` is the last of the head, whose rows begin at `first`.
    pub fn fetch(&mut self, stats: &[Vector<f32, S>], first: usize, token: usize, last: usize) {
        let unit = min(UNIT_POS as usize, comptime!(self.tile.block - 1).runtime());
        self.fetched[0] = stats[first + min(token + unit, last)];
    }

    /// Stores what was fetched for the step at `token`, to be read after the cube's next barrier; the last
    /// step of a map may reach beyond the `length` queries that exist.
    pub fn store(&mut self, place: usize, token: usize, length: usize, weights: &Weights) {
        let unit = UNIT_POS as usize;
        if unit < comptime!(self.tile.block).runtime() {
            let fetched = self.fetched[0];
            let at = self.start_of(place) + unit;
            let shift = weights.shift(fetched.extract(LSE));
            // A query that does not exist weighs nothing.
            self.shifts[at] = select(token + unit < length, shift, f32::new(HIDDEN));
            self.deltas[at] = fetched.extract(DELTA);
            #[comptime]
            match &mut self.factors {
                ComptimeOption::Some(factors) => factors[at] = fetched.extract(FACTOR),
                ComptimeOption::None => {}
            }
        }
    }

    /// Takes each query's `delta` from its slopes.
    pub fn take_delta<N: Size>(&self, slopes: &mut Array<Vector<f32, N>>) {
        let groups = comptime!(self.tile.groups);
        #[unroll]
        for slot in 0..comptime!(self.tile.slots()) {
            let delta = Vector::<f32, N>::new(self.delta(slot));
            #[unroll]
            for g in 0..groups {
                slopes[slot * groups + g] -= delta;
            }
        }
    }

    /// Scores of a step become weights; where they are wanted, slopes by a weight become those by its score.
    pub fn soften<N: Size>(
        &self,
        scores: &mut Array<Vector<f32, N>>,
        slopes: &mut Array<Vector<f32, N>>,
        weights: &Weights,
        #[comptime] wants_slopes: bool,
    ) {
        let groups = comptime!(self.tile.groups);
        #[unroll]
        for slot in 0..comptime!(self.tile.slots()) {
            let shift = self.shift(slot);
            #[unroll]
            for g in 0..groups {
                let at = slot * groups + g;
                let weight = weights.of(scores[at].extract(0usize), shift);
                let weight = Vector::new(self.corrected(weight, slot));
                scores[at] = weight;
                if comptime!(wants_slopes) {
                    slopes[at] *= weight;
                }
            }
        }
    }

    /// Of this lane's `slot`-th query.
    fn shift(&self, #[comptime] slot: usize) -> f32 {
        self.shifts[self.start + slots_start(self.tile) + slot_offset(slot, self.tile)]
    }

    /// A weight of this lane's `slot`-th query, corrected where it is.
    fn corrected(&self, weight: f32, #[comptime] slot: usize) -> f32 {
        #[comptime]
        match &self.factors {
            ComptimeOption::Some(factors) => {
                let at = self.start + slots_start(self.tile) + slot_offset(slot, self.tile);
                weight * factors[at]
            }
            ComptimeOption::None => weight,
        }
    }

    /// Of this lane's `slot`-th query.
    fn delta(&self, #[comptime] slot: usize) -> f32 {
        self.deltas[self.start + slots_start(self.tile) + slot_offset(slot, self.tile)]
    }
}
