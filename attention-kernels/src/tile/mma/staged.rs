//! Tokens on their way through shared memory.

use cubecl::prelude::*;

use super::{
    DEPTH,
    arrival::{Arrival, Moves, Reads},
    memory::{APART, dims_row, load_matrices, place_length, read_operand, tokens_row, zeroed},
    padded,
    track::{Track, chunk},
};
use crate::{
    copy_async::{Ahead, copy_async},
    tile::{RowTile, Spread},
};

/// A step's tokens of one tensor: fetched into registers, stored for every unit of the cube, read as
/// operands.
#[derive(CubeType)]
pub(crate) struct Staged<E: Float, W: Size> {
    /// Token after token.
    tokens: ComptimeOption<Shared<[E]>>,
    /// Dimension after dimension, where no instruction transposes what it loads.
    dims: ComptimeOption<Shared<[E]>>,
    fetched: Array<Vector<E, W>>,
    /// Where this lane's row of the first product's operand begins: what constants are added to.
    dims_row: usize,
    /// The same of the second product's.
    tokens_row: usize,
    #[cube(comptime)]
    arrival: Arrival,
    #[cube(comptime)]
    dim: usize,
    #[cube(comptime)]
    units: usize,
    #[cube(comptime)]
    tile: RowTile,
}

#[cube]
impl<E: Float, W: Size> Staged<E, W> {
    /// For the units of a cube.
    pub fn new(
        #[comptime] dim: usize,
        #[comptime] units: usize,
        #[comptime] tile: RowTile,
        #[comptime] reads: Reads,
        #[comptime] arrival: Arrival,
    ) -> Staged<E, W> {
        let transposes = comptime!(tile.spread == Spread::Quads);
        let tokens = if comptime!(reads.products || transposes) {
            let length = comptime!(arrival.places() * place_length(dim, tile));
            ComptimeOption::new_Some(zeroed::<E>(length, dim, units))
        } else {
            ComptimeOption::new_None()
        };
        let dims = if comptime!(reads.sums && !transposes) {
            let length = comptime!(padded(dim) * (tile.block + APART));
            ComptimeOption::new_Some(zeroed::<E>(length, dim, units))
        } else {
            ComptimeOption::new_None()
        };
        let width = W::value();
        let moves = comptime!(Moves::new(tile.block, dim / width, units));
        Staged::<E, W> {
            tokens,
            dims,
            fetched: Array::new(comptime!(moves.turns())),
            dims_row: dims_row(dim, tile),
            tokens_row: tokens_row(dim, tile),
            arrival,
            dim,
            units,
            tile,
        }
    }

    /// Begins to load the tokens of a track's step; into this `place`, 0 or 1, where there are two.
    pub(super) fn fetch(&mut self, source: &[Vector<E, W>], track: &Track, place: usize) {
        let width = W::value();
        let stride = comptime!((padded(self.dim) + APART) / width);
        let moves = self.moves();
        #[unroll]
        for turn in 0..comptime!(moves.turns()) {
            let from = track.from(turn);
            let (rows, columns) = comptime!(moves.behind(turn, self.units));
            if comptime!(self.arrival == Arrival::Stored) {
                self.fetched[turn] = source[from + columns * track.dim_stride()];
            } else {
                let (row, column) = chunk(comptime!(moves.first(turn)), moves, self.units);
                let to = row * stride + column;
                let to = if comptime!(self.arrival == Arrival::CopiedBeside) {
                    to + place * comptime!(place_length(self.dim, self.tile) / width)
                } else {
                    to
                };
                let tokens = self.tokens.as_mut().unwrap();
                let tokens = tokens.as_vectorized_mut().with_vector_size_mut::<W>();
                // What is copied has chunks that are neighbours.
                let ahead = comptime!(Ahead {
                    source: columns,
                    destination: rows * stride + columns,
                });
                copy_async::<Vector<E, W>>(source, from, tokens, to, ahead);
            }
        }
    }

    /// Stores what was fetched, where it was fetched into registers: to be read after the cube's next
    /// barrier.
    pub fn store(&mut self) {
        if comptime!(self.arrival == Arrival::Stored) {
            self.store_fetched();
        }
    }

    /// Turns to this place, 0 or 1, where there are two.
    pub fn turn(&mut self, place: usize) {
        if comptime!(self.arrival == Arrival::CopiedBeside) {
            let start = place * comptime!(place_length(self.dim, self.tile));
            self.dims_row = start + dims_row(self.dim, self.tile);
            self.tokens_row = start + tokens_row(self.dim, self.tile);
        }
    }

    fn store_fetched(&mut self) {
        let width = W::value();
        let moves = self.moves();
        #[unroll]
        for turn in 0..comptime!(moves.turns()) {
            let (row, column) = chunk(turn, moves, self.units);
            #[comptime]
            match &mut self.tokens {
                ComptimeOption::Some(tokens) => {
                    let stride = comptime!((padded(self.dim) + APART) / width);
                    tokens.as_vectorized_mut().with_vector_size_mut::<W>()[row * stride + column] =
                        self.fetched[turn];
                }
                ComptimeOption::None => {}
            }
            #[comptime]
            match &mut self.dims {
                ComptimeOption::Some(dims) => {
                    let stride = comptime!(self.tile.block + APART);
                    #[unroll]
                    for i in 0..width {
                        dims[(column * width + i) * stride + row] = self.fetched[turn].extract(i);
                    }
                }
                ComptimeOption::None => {}
            }
        }
    }

    fn moves(&self) -> comptime_type!(Moves) {
        let width = W::value();
        comptime!(Moves::new(self.tile.block, self.dim / width, self.units))
    }

    /// The operand of the first product: the `tile`-th tokens, dimensions from `DEPTH * step` on.
    /// With `Quads`, two operands: of these tokens and the next.
    pub fn along_dims<R: Size>(
        &self,
        #[comptime] tile: usize,
        #[comptime] step: usize,
    ) -> Array<Vector<E, R>> {
        let spread = comptime!(self.tile.spread);
        let stride = comptime!(padded(self.dim) + APART);
        let memory = self.tokens.as_ref().unwrap();
        let row = comptime!(tile * spread.tile_width() * stride + step * DEPTH);
        if comptime!(spread == Spread::Quads) {
            load_matrices::<E, R>(memory, self.dims_row + row, false)
        } else {
            read_operand::<E, R>(memory, self.dims_row + row, spread)
        }
    }

    /// The operand of the second product: the `step`-th 16 tokens, the `tile`-th dimensions. With
    /// `Quads`, two operands: of this tile and the next.
    pub fn along_tokens<R: Size>(
        &self,
        #[comptime] tile: usize,
        #[comptime] step: usize,
    ) -> Array<Vector<E, R>> {
        let spread = comptime!(self.tile.spread);
        let first = comptime!(tile * spread.tile_width());
        if comptime!(spread == Spread::Quads) {
            let memory = self.tokens.as_ref().unwrap();
            let stride = comptime!(padded(self.dim) + APART);
            let row = comptime!(step * DEPTH * stride + first);
            load_matrices::<E, R>(memory, self.tokens_row + row, true)
        } else {
            let memory = self.dims.as_ref().unwrap();
            let stride = comptime!(self.tile.block + APART);
            let row = comptime!(first * stride + step * DEPTH);
            read_operand::<E, R>(memory, self.tokens_row + row, spread)
        }
    }
}
