//! A plane's own piece of shared memory.

use cubecl::{cmma, prelude::*};

use super::{
    PlaneTile, QUAD, Quad, RowOperands, Tokens, lane_part, lane_row, plane_rows::PlaneRows,
};

/// Numbers that pass between fragments and lanes.
#[derive(CubeType)]
pub(crate) struct Scratch<E: Float> {
    pub(super) scores: PlaneRows<f32>,
    pub(super) weights: PlaneRows<E>,
    /// A word for each unit, where planes cannot vote.
    moves: ComptimeOption<Shared<[u32]>>,
    /// 0, which no compiler knows: what turns so many times more is not unrolled.
    pub(super) zero: usize,
    #[cube(comptime)]
    pub(super) tile: PlaneTile,
}

#[cube]
impl<E: Float> Scratch<E> {
    /// `zero` is 0, but not at compile time.
    pub fn new(zero: usize, #[comptime] tile: PlaneTile) -> Scratch<E> {
        let moves = if comptime!(tile.votes) {
            ComptimeOption::new_None()
        } else {
            ComptimeOption::new_Some(Shared::<[u32]>::new_slice(comptime!(tile.units())))
        };
        Scratch::<E> {
            scores: PlaneRows::new(comptime!(score_stride(tile.block)), tile),
            weights: PlaneRows::new(comptime!(weight_stride(tile.block)), tile),
            moves,
            zero,
            tile,
        }
    }

    /// `rows * tokens` for a step, to be read by the plane's lanes.
    pub fn multiply<W: Size>(&mut self, rows: &RowOperands<E>, tokens: &Tokens<E, W>) {
        let tile = comptime!(self.tile);
        let row_tiles = comptime!(tile.row_tiles());
        let steps = comptime!(tile.padded(rows.dim) / tile.k);
        #[unroll]
        for t in 0..comptime!(tile.block / tile.n) {
            let mut sums = Sequence::<cmma::Matrix<f32>>::new();
            #[unroll]
            for _ in 0..row_tiles {
                sums.push(zeros(tile));
            }
            if comptime!(tile.lent) {
                for step in 0..steps + self.zero {
                    let operand = tokens.along_dims(t, step);
                    #[unroll]
                    for r in 0..row_tiles {
                        let sum = sums.index(r);
                        cmma::execute(&rows.borrow(r, step), &operand, sum, sum);
                    }
                }
            } else {
                #[unroll]
                for step in 0..steps {
                    let operand = tokens.along_dims(t, step.runtime());
                    #[unroll]
                    for r in 0..row_tiles {
                        let sum = sums.index(r);
                        cmma::execute(rows.held(r, step), &operand, sum, sum);
                    }
                }
            }
            #[unroll]
            for r in 0..row_tiles {
                self.scores.take(
                    sums.index(r),
                    comptime!(r * tile.m).runtime(),
                    comptime!(t * tile.n).runtime(),
                    tile.n,
                );
            }
        }
        sync_plane();
    }

    /// This lane's run of the products, times `factor`.
    pub fn read<N: Size>(&self, scores: &mut Array<Vector<f32, N>>, factor: f32) {
        let tile = comptime!(self.tile);
        let run = comptime!(tile.run());
        let start = self.scores.at(lane_row(tile), lane_part(tile) * run);
        #[unroll]
        for quad in 0..comptime!(run / QUAD) {
            let read = self.scores.memory[start + quad];
            #[unroll]
            for i in 0..QUAD {
                scores[comptime!(quad * QUAD + i)] = Vector::new(read.extract(i) * factor);
            }
        }
    }

    /// This lane's run of the second product's operand: to be read after [`sync_plane`].
    pub fn write<N: Size>(&mut self, weights: &Array<Vector<f32, N>>) {
        let tile = comptime!(self.tile);
        let run = comptime!(tile.run());
        let start = self.weights.at(lane_row(tile), lane_part(tile) * run);
        #[unroll]
        for quad in 0..comptime!(run / QUAD) {
            let mut numbers = Vector::<f32, Quad>::new(0.0f32);
            #[unroll]
            for i in 0..QUAD {
                numbers.insert(i, weights[comptime!(quad * QUAD + i)].extract(0usize));
            }
            self.weights.memory[start + quad] = Vector::cast_from(numbers);
        }
    }

    /// Says before the cube's barrier whether `condition` holds for this lane.
    pub fn announce(&mut self, condition: bool) {
        #[comptime]
        match &mut self.moves {
            ComptimeOption::Some(moves) => {
                moves[UNIT_POS as usize] = select(condition, 1u32, 0u32);
            }
            ComptimeOption::None => {}
        }
    }

    /// Whether the `condition` that was announced holds for any lane of the plane; of the cube, where
    /// planes cannot vote: a device that only imitates planes may take their barriers for the cube's, and
    /// then all have to meet the same.
    pub fn any(&self, condition: bool) -> bool {
        #[comptime]
        match &self.moves {
            ComptimeOption::Some(moves) => {
                let mut count = 0u32.runtime();
                #[unroll]
                for unit in 0..comptime!(self.tile.units()) {
                    count += moves[unit];
                }
                count > 0
            }
            ComptimeOption::None => plane_any(condition),
        }
    }
}

/// From a row of scores to the next.
pub(super) fn score_stride(columns: usize) -> usize {
    columns + 4
}

/// From a row of operands to the next: as for scores, lanes that read a column of vectors meet different
/// banks, and every row is aligned to 16 bytes.
pub(super) fn weight_stride(columns: usize) -> usize {
    columns + 8
}

/// A fragment of sums that are 0.
#[cube]
pub(super) fn zeros(#[comptime] tile: PlaneTile) -> cmma::Matrix<f32> {
    cmma::Matrix::<f32>::from_value(
        cmma::MatrixIdent::Accumulator,
        tile.m,
        tile.n,
        tile.k,
        cmma::MatrixLayout::Undefined,
        0.0f32,
    )
}
