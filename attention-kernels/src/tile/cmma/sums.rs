//! Sums of a plane's rows over the tokens.

use cubecl::{cmma, prelude::*};

use super::{
    PlaneTile, QUAD, Scratch, Tokens, lane_part, lane_row,
    operands::row_operand,
    plane_rows::PlaneRows,
    scratch::{score_stride, zeros},
};

/// For each [`PlaneTile::n`] dimensions, a fragment for each [`PlaneTile::m`] rows: held, or in shared
/// memory.
#[derive(CubeType)]
pub(crate) struct FragmentSums {
    parts: Sequence<cmma::Matrix<f32>>,
    lent: ComptimeOption<PlaneRows<f32>>,
    /// As in [`Scratch`].
    zero: usize,
    #[cube(comptime)]
    dim: usize,
    #[cube(comptime)]
    tile: PlaneTile,
}

#[cube]
impl FragmentSums {
    /// Of `dim` dimensions, all 0.
    pub fn new(zero: usize, #[comptime] dim: usize, #[comptime] tile: PlaneTile) -> FragmentSums {
        let mut parts = Sequence::<cmma::Matrix<f32>>::new();
        let lent = if comptime!(tile.lent) {
            let stride = comptime!(score_stride(tile.padded(dim)));
            ComptimeOption::new_Some(PlaneRows::<f32>::new(stride, tile))
        } else {
            #[unroll]
            for _ in 0..comptime!(tile.padded(dim) / tile.n * tile.row_tiles()) {
                parts.push(zeros(tile));
            }
            ComptimeOption::new_None()
        };
        let mut sums = FragmentSums {
            parts,
            lent,
            zero,
            dim,
            tile,
        };
        sums.clear();
        sums
    }

    /// Begins anew.
    pub fn clear(&mut self) {
        let tile = comptime!(self.tile);
        let dim = comptime!(self.dim);
        #[comptime]
        match &mut self.lent {
            ComptimeOption::Some(lent) => {
                multiply_row(
                    lent,
                    self.zero,
                    0.0f32,
                    comptime!(tile.padded(dim)),
                    true,
                    tile,
                );
                sync_plane();
            }
            ComptimeOption::None => {
                #[unroll]
                for part in 0..comptime!(tile.padded(dim) / tile.n * tile.row_tiles()) {
                    cmma::fill(self.parts.index_mut(part), 0.0f32);
                }
            }
        }
    }

    /// `sums += weights * tokens` for a step, with the weights that [`Scratch::write`] left.
    pub fn accumulate<E: Float, W: Size>(&mut self, scratch: &Scratch<E>, tokens: &Tokens<E, W>) {
        let tile = comptime!(self.tile);
        let dim = comptime!(self.dim);
        let row_tiles = comptime!(tile.row_tiles());
        #[unroll]
        for step in 0..comptime!(tile.block / tile.k) {
            let mut operands = Sequence::<cmma::Matrix<E>>::new();
            #[unroll]
            for r in 0..row_tiles {
                let mut operand = row_operand::<E>(tile);
                scratch.weights.give(
                    &mut operand,
                    comptime!(r * tile.m).runtime(),
                    comptime!(step * tile.k).runtime(),
                    tile.k,
                );
                operands.push(operand);
            }
            #[comptime]
            match &mut self.lent {
                ComptimeOption::Some(lent) => {
                    for d in 0..comptime!(tile.padded(dim) / tile.n) + scratch.zero {
                        let operand = tokens.along_tokens(d, step);
                        #[unroll]
                        for r in 0..row_tiles {
                            let row = comptime!(r * tile.m).runtime();
                            let mut sum = zeros(tile);
                            lent.give(&mut sum, row, d * tile.n, tile.n);
                            cmma::execute(operands.index(r), &operand, &sum, &sum);
                            lent.take(&sum, row, d * tile.n, tile.n);
                        }
                    }
                    if comptime!(tile.block > tile.k) {
                        sync_plane();
                    }
                }
                ComptimeOption::None =>
                {
                    #[unroll]
                    for d in 0..comptime!(tile.padded(dim) / tile.n) {
                        let operand = tokens.along_tokens(d.runtime(), step);
                        #[unroll]
                        for r in 0..row_tiles {
                            let sum = self.parts.index(comptime!(d * row_tiles + r));
                            cmma::execute(operands.index(r), &operand, sum, sum);
                        }
                    }
                }
            }
        }
    }

    /// Multiplies the row of this lane by `factor`, as every lane does its own; the scores must have
    /// been read.
    pub fn scale<E: Float>(&mut self, scratch: &mut Scratch<E>, factor: f32) {
        let tile = comptime!(self.tile);
        let dim = comptime!(self.dim);
        #[comptime]
        match &mut self.lent {
            ComptimeOption::Some(lent) => {
                multiply_row(
                    lent,
                    self.zero,
                    factor,
                    comptime!(tile.padded(dim)),
                    false,
                    tile,
                );
                sync_plane();
            }
            ComptimeOption::None =>
            {
                #[unroll]
                for piece in 0..comptime!(tile.pieces(dim)) {
                    let columns = comptime!(tile.piece_columns(dim, piece));
                    self.lend(scratch, piece);
                    multiply_row(&mut scratch.scores, self.zero, factor, columns, false, tile);
                    sync_plane();
                    self.regain(scratch, piece);
                    sync_plane();
                }
            }
        }
    }

    /// Writes this lane's row times `factor` to a row of a row-major matrix, where it `exists`; every
    /// lane does the same.
    pub fn store<E: Float, O: Size>(
        &self,
        scratch: &mut Scratch<E>,
        factor: f32,
        target: &mut [Vector<E, O>],
        row: usize,
        exists: bool,
    ) {
        let tile = comptime!(self.tile);
        let dim = comptime!(self.dim);
        #[comptime]
        match &self.lent {
            ComptimeOption::Some(lent) => {
                sync_plane();
                if exists {
                    store_row::<E, O>(lent, self.zero, factor, target, row, 0usize, dim, dim, tile);
                }
            }
            ComptimeOption::None =>
            {
                #[unroll]
                for piece in 0..comptime!(tile.pieces(dim)) {
                    self.lend(scratch, piece);
                    let from = comptime!(piece * tile.block);
                    let columns = comptime!((dim - from).min(tile.block));
                    if exists {
                        let scores = &scratch.scores;
                        store_row::<E, O>(
                            scores, self.zero, factor, target, row, from, columns, dim, tile,
                        );
                    }
                    sync_plane();
                }
            }
        }
    }

    /// Stores a piece of the sums where the lanes of the plane read it.
    fn lend<E: Float>(&self, scratch: &mut Scratch<E>, #[comptime] piece: usize) {
        let tile = comptime!(self.tile);
        let row_tiles = comptime!(tile.row_tiles());
        let first = comptime!(piece * tile.block / tile.n);
        #[unroll]
        for d in 0..comptime!(tile.piece_columns(self.dim, piece) / tile.n) {
            #[unroll]
            for r in 0..row_tiles {
                scratch.scores.take(
                    self.parts.index(comptime!((first + d) * row_tiles + r)),
                    comptime!(r * tile.m).runtime(),
                    comptime!(d * tile.n).runtime(),
                    tile.n,
                );
            }
        }
        sync_plane();
    }

    /// Loads what [`Self::lend`] stored.
    fn regain<E: Float>(&mut self, scratch: &mut Scratch<E>, #[comptime] piece: usize) {
        let tile = comptime!(self.tile);
        let row_tiles = comptime!(tile.row_tiles());
        let first = comptime!(piece * tile.block / tile.n);
        #[unroll]
        for d in 0..comptime!(tile.piece_columns(self.dim, piece) / tile.n) {
            #[unroll]
            for r in 0..row_tiles {
                scratch.scores.give(
                    self.parts.index_mut(comptime!((first + d) * row_tiles + r)),
                    comptime!(r * tile.m).runtime(),
                    comptime!(d * tile.n).runtime(),
                    tile.n,
                );
            }
        }
    }
}

/// Multiplies so many columns of this lane's row by `factor`, or sets them to it.
#[cube]
fn multiply_row(
    rows: &mut PlaneRows<f32>,
    zero: usize,
    factor: f32,
    #[comptime] columns: usize,
    #[comptime] replace: bool,
    #[comptime] tile: PlaneTile,
) {
    let start = rows.at(lane_row(tile), 0usize.runtime());
    let quads = comptime!(columns / QUAD);
    for turn in 0..comptime!(quads.div_ceil(tile.lanes)) + zero {
        let quad = turn * tile.lanes + lane_part(tile);
        if comptime!(quads % tile.lanes == 0).runtime() || quad < quads {
            let factor = Vector::new(factor);
            rows.memory[start + quad] = if comptime!(replace) {
                factor
            } else {
                rows.memory[start + quad] * factor
            };
        }
    }
}

/// Writes so many columns of this lane's row, times `factor`, to the dimensions of a row of `target` from
/// `from` on.
#[cube]
fn store_row<E: Float, O: Size>(
    rows: &PlaneRows<f32>,
    zero: usize,
    factor: f32,
    target: &mut [Vector<E, O>],
    row: usize,
    #[comptime] from: usize,
    #[comptime] columns: usize,
    #[comptime] dim: usize,
    #[comptime] tile: PlaneTile,
) {
    let width = O::value();
    let start = rows.at(lane_row(tile), 0usize.runtime());
    let quads = comptime!(columns.div_ceil(QUAD));
    for turn in 0..comptime!(quads.div_ceil(tile.lanes)) + zero {
        let quad = turn * tile.lanes + lane_part(tile);
        if quad < quads {
            let scaled = rows.memory[start + quad] * Vector::new(factor);
            #[unroll]
            for p in 0..comptime!(QUAD / width) {
                let mut out = Vector::<E, O>::new(E::from_int(0));
                #[unroll]
                for i in 0..width {
                    out.insert(i, E::cast_from(scaled.extract(comptime!(p * width + i))));
                }
                let column = quad * QUAD + comptime!(from + p * width);
                if column < dim {
                    target[row * comptime!(dim / width) + column / width] = out;
                }
            }
        }
    }
}
