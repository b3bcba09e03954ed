//! Sums of a plane's rows over the tokens.

use cubecl::{cmma, prelude::*};

use super::{
    PlaneTile, QUAD, Scratch, Tokens, lane_part, lane_row, operands::row_operand, scratch::zeros,
};

/// For each [`PlaneTile::n`] dimensions, a fragment for each [`PlaneTile::m`] rows.
#[derive(CubeType)]
pub(crate) struct FragmentSums {
    parts: Sequence<cmma::Matrix<f32>>,
    #[cube(comptime)]
    dim: usize,
    #[cube(comptime)]
    tile: PlaneTile,
}

#[cube]
impl FragmentSums {
    /// Of `dim` dimensions, all 0.
    pub fn new(#[comptime] dim: usize, #[comptime] tile: PlaneTile) -> FragmentSums {
        let mut parts = Sequence::<cmma::Matrix<f32>>::new();
        #[unroll]
        for _ in 0..comptime!(tile.padded(dim) / tile.n * tile.row_tiles()) {
            parts.push(zeros(tile));
        }
        FragmentSums { parts, dim, tile }
    }

    /// Begins anew.
    pub fn clear(&mut self) {
        let tile = comptime!(self.tile);
        #[unroll]
        for part in 0..comptime!(tile.padded(self.dim) / tile.n * tile.row_tiles()) {
            cmma::fill(self.parts.index_mut(part), 0.0f32);
        }
    }

    /// `sums += weights * tokens` for a step, with the weights that [`Scratch::write`] left.
    pub fn accumulate<E: Float, W: Size>(&mut self, scratch: &Scratch<E>, tokens: &Tokens<E, W>) {
        let tile = comptime!(self.tile);
        let row_tiles = comptime!(tile.row_tiles());
        #[unroll]
        for step in 0..comptime!(tile.block / tile.k) {
            let mut operands = Sequence::<cmma::Matrix<E>>::new();
            #[unroll]
            for r in 0..row_tiles {
                let mut operand = row_operand::<E>(tile);
                scratch.operand(
                    &mut operand,
                    comptime!(r * tile.m),
                    comptime!(step * tile.k),
                );
                operands.push(operand);
            }
            #[unroll]
            for d in 0..comptime!(tile.padded(self.dim) / tile.n) {
                let operand = tokens.along_tokens(d, step);
                #[unroll]
                for r in 0..row_tiles {
                    let sum = self.parts.index(comptime!(d * row_tiles + r));
                    cmma::execute(operands.index(r), &operand, sum, sum);
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
        for d in 0..comptime!(tile.columns(self.dim, piece) / tile.n) {
            #[unroll]
            for r in 0..row_tiles {
                let part = self.parts.index(comptime!((first + d) * row_tiles + r));
                scratch.take(part, comptime!(r * tile.m), comptime!(d * tile.n));
            }
        }
        sync_plane();
    }

    /// Multiplies the row of this lane by `factor`, as every lane does its own; the scores must have
    /// been read.
    pub fn scale<E: Float>(&mut self, scratch: &mut Scratch<E>, factor: f32) {
        let tile = comptime!(self.tile);
        let row_tiles = comptime!(tile.row_tiles());
        #[unroll]
        for piece in 0..comptime!(tile.pieces(self.dim)) {
            let columns = comptime!(tile.columns(self.dim, piece));
            self.lend(scratch, piece);
            let start = scratch.score_at(lane_row(tile), 0usize.runtime());
            let quads = comptime!(columns / QUAD);
            for turn in 0..comptime!(quads.div_ceil(tile.lanes)) {
                let quad = turn * tile.lanes + lane_part(tile);
                if comptime!(quads % tile.lanes == 0).runtime() || quad < quads {
                    scratch.scores[start + quad] *= Vector::new(factor);
                }
            }
            sync_plane();
            let first = comptime!(piece * tile.block / tile.n);
            #[unroll]
            for d in 0..comptime!(columns / tile.n) {
                #[unroll]
                for r in 0..row_tiles {
                    scratch.give(
                        self.parts.index_mut(comptime!((first + d) * row_tiles + r)),
                        comptime!(r * tile.m),
                        comptime!(d * tile.n),
                    );
                }
            }
            sync_plane();
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
        let width = O::value();
        #[unroll]
        for piece in 0..comptime!(tile.pieces(dim)) {
            self.lend(scratch, piece);
            let start = scratch.score_at(lane_row(tile), 0usize.runtime());
            let quads = comptime!((dim - piece * tile.block).min(tile.block).div_ceil(QUAD));
            for turn in 0..comptime!(quads.div_ceil(tile.lanes)) {
                let quad = turn * tile.lanes + lane_part(tile);
                if exists && quad < quads {
                    let scaled = scratch.scores[start + quad] * Vector::new(factor);
                    #[unroll]
                    for p in 0..comptime!(QUAD / width) {
                        let mut out = Vector::<E, O>::new(E::from_int(0));
                        #[unroll]
                        for i in 0..width {
                            out.insert(i, E::cast_from(scaled.extract(comptime!(p * width + i))));
                        }
                        let column = quad * QUAD + comptime!(piece * tile.block + p * width);
                        if column < dim {
                            target[row * comptime!(dim / width) + column / width] = out;
                        }
                    }
                }
            }
            sync_plane();
        }
    }
}
