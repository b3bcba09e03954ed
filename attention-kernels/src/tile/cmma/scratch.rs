//! A plane's own piece of shared memory.

use cubecl::{cmma, prelude::*};

use super::{PlaneTile, QUAD, RowOperands, Tokens, lane_part, lane_row};

type Quad = Const<QUAD>;

/// Numbers that pass between fragments and lanes: a row of each for every row of every plane.
#[derive(CubeType)]
pub(crate) struct Scratch<E: Float> {
    pub(super) scores: Shared<[Vector<f32, Quad>]>,
    pub(super) weights: Shared<[Vector<E, Quad>]>,
    /// A word for each unit, where planes cannot vote.
    moves: ComptimeOption<Shared<[u32]>>,
    #[cube(comptime)]
    pub(super) tile: PlaneTile,
}

#[cube]
impl<E: Float> Scratch<E> {
    pub fn new(#[comptime] tile: PlaneTile) -> Scratch<E> {
        let rows = comptime!(tile.planes * tile.rows);
        let scores =
            Shared::new_aligned_slice(comptime!(rows * tile.score_stride() / QUAD), 16usize);
        let weights =
            Shared::new_aligned_slice(comptime!(rows * tile.weight_stride() / QUAD), 16usize);
        let moves = if comptime!(tile.votes) {
            ComptimeOption::new_None()
        } else {
            ComptimeOption::new_Some(Shared::<[u32]>::new_slice(comptime!(tile.units())))
        };
        Scratch::<E> {
            scores,
            weights,
            moves,
            tile,
        }
    }

    /// Where a column of a plane's row of scores lies, in vectors.
    pub(super) fn score_at(&self, row: usize, column: usize) -> usize {
        let tile = comptime!(self.tile);
        let stride = comptime!(tile.score_stride() / QUAD);
        (PLANE_POS as usize * tile.rows + row) * stride + column / QUAD
    }

    /// Where a column of a plane's row of weights lies, in vectors.
    pub(super) fn weight_at(&self, row: usize, column: usize) -> usize {
        let tile = comptime!(self.tile);
        let stride = comptime!(tile.weight_stride() / QUAD);
        (PLANE_POS as usize * tile.rows + row) * stride + column / QUAD
    }

    /// `rows * tokens` for a step, to be read by the plane's lanes.
    pub fn multiply<W: Size>(&mut self, rows: &RowOperands<E>, tokens: &Tokens<E, W>) {
        let tile = comptime!(self.tile);
        let row_tiles = comptime!(tile.row_tiles());
        #[unroll]
        for t in 0..comptime!(tile.block / tile.n) {
            let mut sums = Sequence::<cmma::Matrix<f32>>::new();
            #[unroll]
            for _ in 0..row_tiles {
                sums.push(zeros(tile));
            }
            #[unroll]
            for step in 0..comptime!(tile.padded(rows.dim) / tile.k) {
                let operand = tokens.along_dims(t, step);
                #[unroll]
                for r in 0..row_tiles {
                    let sum = sums.index(r);
                    let part = rows.parts.index(comptime!(step * row_tiles + r));
                    cmma::execute(part, &operand, sum, sum);
                }
            }
            #[unroll]
            for r in 0..row_tiles {
                self.take(sums.index(r), comptime!(r * tile.m), comptime!(t * tile.n));
            }
        }
        sync_plane();
    }

    /// Stores a fragment of sums.
    pub(super) fn take(
        &mut self,
        sums: &cmma::Matrix<f32>,
        #[comptime] row: usize,
        #[comptime] column: usize,
    ) {
        let tile = comptime!(self.tile);
        let stride = comptime!(tile.score_stride());
        let start = self.score_at(row.runtime(), column.runtime());
        let end = start + comptime!(((tile.m - 1) * stride + tile.n) / QUAD);
        cmma::store(
            &mut self.scores[start..end],
            sums,
            comptime!(stride as u32),
            cmma::MatrixLayout::RowMajor,
        );
    }

    /// Loads the fragment of sums that [`Self::take`] stored.
    pub(super) fn give(
        &self,
        sums: &mut cmma::Matrix<f32>,
        #[comptime] row: usize,
        #[comptime] column: usize,
    ) {
        let tile = comptime!(self.tile);
        let stride = comptime!(tile.score_stride());
        let start = self.score_at(row.runtime(), column.runtime());
        let end = start + comptime!(((tile.m - 1) * stride + tile.n) / QUAD);
        cmma::load_with_layout(
            sums,
            &self.scores[start..end],
            comptime!(stride as u32),
            cmma::MatrixLayout::RowMajor,
        );
    }

    /// Loads an operand of rows from the weights.
    pub(super) fn operand(
        &self,
        operand: &mut cmma::Matrix<E>,
        #[comptime] row: usize,
        #[comptime] column: usize,
    ) {
        let tile = comptime!(self.tile);
        let stride = comptime!(tile.weight_stride());
        let start = self.weight_at(row.runtime(), column.runtime());
        let end = start + comptime!(((tile.m - 1) * stride + tile.k) / QUAD);
        cmma::load(operand, &self.weights[start..end], comptime!(stride as u32));
    }

    /// This lane's run of the products, times `factor`.
    pub fn read<N: Size>(&self, scores: &mut Array<Vector<f32, N>>, factor: f32) {
        let tile = comptime!(self.tile);
        let start = self.score_at(lane_row(tile), lane_part(tile) * comptime!(tile.run()));
        #[unroll]
        for quad in 0..comptime!(tile.run() / QUAD) {
            let read = self.scores[start + quad];
            #[unroll]
            for i in 0..QUAD {
                scores[comptime!(quad * QUAD + i)] = Vector::new(read.extract(i) * factor);
            }
        }
    }

    /// This lane's run of the second product's operand: to be read after [`sync_plane`].
    pub fn write<N: Size>(&mut self, weights: &Array<Vector<f32, N>>) {
        let tile = comptime!(self.tile);
        let start = self.weight_at(lane_row(tile), lane_part(tile) * comptime!(tile.run()));
        #[unroll]
        for quad in 0..comptime!(tile.run() / QUAD) {
            let mut run = Vector::<f32, Quad>::new(0.0f32);
            #[unroll]
            for i in 0..QUAD {
                run.insert(i, weights[comptime!(quad * QUAD + i)].extract(0usize));
            }
            self.weights[start + quad] = Vector::cast_from(run);
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
