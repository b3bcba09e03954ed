//! A step's tokens in shared memory, for every plane of the cube.

use cubecl::{cmma, prelude::*};

use super::PlaneTile;
use crate::tile::Stream;

/// A step's tokens of one tensor: fetched into registers, stored token after token, read as operands of
/// both products.
#[derive(CubeType)]
pub(crate) struct Tokens<E: Float, W: Size> {
    memory: Shared<[Vector<E, W>]>,
    fetched: Array<Vector<E, W>>,
    /// As in [`Scratch`](super::Scratch).
    zero: usize,
    #[cube(comptime)]
    pub(super) dim: usize,
    #[cube(comptime)]
    tile: PlaneTile,
}

#[cube]
impl<E: Float, W: Size> Tokens<E, W> {
    /// Tokens of `dim` dimensions.
    pub fn new(zero: usize, #[comptime] dim: usize, #[comptime] tile: PlaneTile) -> Tokens<E, W> {
        let width = W::value();
        let length = comptime!(tile.block * tile.token_stride(dim) / width);
        let mut memory = Shared::<[Vector<E, W>]>::new_aligned_slice(length, 16usize);
        // What pads a row is multiplied, and 0 times what was there may not be 0.
        if comptime!(dim != tile.padded(dim)) {
            for turn in 0..comptime!(length.div_ceil(tile.units())) {
                let at = turn * comptime!(tile.units()) + UNIT_POS as usize;
                if at < length {
                    memory[at] = Vector::new(E::from_int(0));
                }
            }
            sync_cube();
        }
        let chunks = comptime!(tile.block * dim / width);
        Tokens::<E, W> {
            memory,
            fetched: Array::new(comptime!(if tile.lent {
                1
            } else {
                chunks.div_ceil(tile.units())
            })),
            zero,
            dim,
            tile,
        }
    }

    /// Begins to load the tokens from `token` on.
    pub fn fetch(&mut self, source: &[Vector<E, W>], stream: &Stream, token: usize) {
        if comptime!(!self.tile.lent) {
            #[unroll]
            for turn in 0..self.turns() {
                let chunk = self.chunk(turn);
                self.fetched[turn] = self.load(source, stream, token, chunk);
            }
        }
    }

    /// Stores what was fetched from `token` on: to be read after the cube's next barrier.
    pub fn store(&mut self, source: &[Vector<E, W>], stream: &Stream, token: usize) {
        if comptime!(self.tile.lent) {
            for turn in 0..self.turns() + self.zero {
                let chunk = self.chunk(turn);
                let loaded = self.load(source, stream, token, chunk);
                let at = self.place(chunk);
                self.memory[at] = loaded;
            }
        } else {
            #[unroll]
            for turn in 0..self.turns() {
                let at = self.place(self.chunk(turn));
                self.memory[at] = self.fetched[turn];
            }
        }
    }

    /// How many chunks a unit moves.
    fn turns(&self) -> comptime_type!(usize) {
        let width = W::value();
        let tile = comptime!(self.tile);
        comptime!((tile.block * self.dim / width).div_ceil(tile.units()))
    }

    fn load(
        &self,
        source: &[Vector<E, W>],
        stream: &Stream,
        token: usize,
        chunk: usize,
    ) -> Vector<E, W> {
        let width = W::value();
        let across = comptime!(self.dim / width);
        let row = min(token + chunk / across, stream.last);
        let column = chunk % across * stream.dim_stride;
        source[stream.origin + row * stream.token_stride + column]
    }

    /// Where a chunk lies.
    fn place(&self, chunk: usize) -> usize {
        let width = W::value();
        let across = comptime!(self.dim / width);
        let stride = comptime!(self.tile.token_stride(self.dim) / width);
        chunk / across * stride + chunk % across
    }

    /// Which chunk this unit moves in a turn; the last again, where there is none.
    fn chunk(&self, turn: usize) -> usize {
        let width = W::value();
        let tile = comptime!(self.tile);
        let chunks = comptime!(tile.block * self.dim / width);
        let chunk = turn * tile.units() + UNIT_POS as usize;
        if comptime!(chunks.is_multiple_of(tile.units())) {
            chunk
        } else {
            min(chunk, comptime!(chunks - 1).runtime())
        }
    }

    /// The operand of the first product: the `t`-th tokens, the `step`-th dimensions.
    pub(super) fn along_dims(&self, #[comptime] t: usize, step: usize) -> cmma::Matrix<E> {
        let tile = comptime!(self.tile);
        self.operand(
            comptime!(t * tile.n),
            step * tile.k,
            comptime!((tile.n - 1, tile.k)),
            cmma::MatrixLayout::ColMajor,
        )
    }

    /// The operand of the second product: the `step`-th tokens, the `d`-th dimensions.
    pub(super) fn along_tokens(&self, d: usize, #[comptime] step: usize) -> cmma::Matrix<E> {
        let tile = comptime!(self.tile);
        self.operand(
            comptime!(step * tile.k),
            d * tile.n,
            comptime!((tile.k - 1, tile.n)),
            cmma::MatrixLayout::RowMajor,
        )
    }

    /// The fragment that begins at a token and a dimension, and ends so many further.
    fn operand(
        &self,
        #[comptime] token: usize,
        dimension: usize,
        #[comptime] extent: (usize, usize),
        #[comptime] layout: cmma::MatrixLayout,
    ) -> cmma::Matrix<E> {
        let width = W::value();
        let tile = comptime!(self.tile);
        let stride = comptime!(tile.token_stride(self.dim));
        let start = comptime!(token * stride / width) + dimension / width;
        let end = start + comptime!((extent.0 * stride + extent.1) / width);
        // SAFETY: it is loaded at once.
        let mut operand = unsafe {
            cmma::Matrix::<E>::uninitialized(cmma::MatrixIdent::B, tile.m, tile.n, tile.k, layout)
        };
        let tokens = &self.memory[start..end];
        cmma::load(&mut operand, tokens, comptime!(stride as u32));
        operand
    }
}
