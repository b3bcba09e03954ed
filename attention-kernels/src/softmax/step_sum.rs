//! A sum of one number for each step of a walk, which may be thousands.

use cubecl::prelude::*;

use crate::tile::filled;

/// Steps that are summed by themselves before they join the others: an error grows with the root of its chain's
/// length.
const STEPS: usize = 64;

/// The sums of a unit's rows.
#[derive(CubeType)]
pub(crate) struct StepSum<N: Size> {
    /// Of the steps since the last that joined.
    latest: Array<Vector<f32, N>>,
    /// Of the steps before.
    joined: Array<Vector<f32, N>>,
}

#[cube]
impl<N: Size> StepSum<N> {
    pub fn new(#[comptime] groups: usize) -> StepSum<N> {
        StepSum::<N> {
            latest: filled::<N>(0.0f32, groups, true),
            joined: filled::<N>(0.0f32, groups, true),
        }
    }

    /// Adds the numbers of the step with this index.
    pub fn add(&mut self, step: &Array<Vector<f32, N>>, index: usize) {
        #[unroll]
        for g in 0..step.len() {
            self.latest[g] += step[g];
        }
        if index % STEPS == comptime!(STEPS - 1) {
            #[unroll]
            for g in 0..step.len() {
                self.joined[g] += self.latest[g];
                self.latest[g] = Vector::new(0.0f32);
            }
        }
    }

    /// The sum of a row.
    pub fn of(&self, #[comptime] group: usize) -> Vector<f32, N> {
        self.joined[group] + self.latest[group]
    }
}
