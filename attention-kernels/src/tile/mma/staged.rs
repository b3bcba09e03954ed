//! Tokens on their way through shared memory.

use cubecl::{
    cmma::{MatrixIdent, MmaDefinition},
    prelude::*,
};

use super::{DEPTH, padded, rows::operand_start};
use crate::{
    copy_async::{copies_arrive, copy_async},
    tile::{RowTile, Spread, Stream},
};

/// Elements that set a row apart from the next, so that eight rows meet different banks.
const APART: usize = 8;

/// Which layouts of a step's tokens a kernel reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Reads {
    /// Products with the tokens: rows of dimensions.
    pub products: bool,
    /// Sums over the tokens: rows of tokens.
    pub sums: bool,
}

impl Reads {
    /// Products only.
    pub fn products() -> Self {
        Self {
            products: true,
            sums: false,
        }
    }

    /// Sums only.
    pub fn sums() -> Self {
        Self {
            products: false,
            sums: true,
        }
    }

    /// Both.
    pub fn both() -> Self {
        Self {
            products: true,
            sums: true,
        }
    }
}

/// Bytes of shared memory that a step's tokens of 16-bit elements take at most, in both layouts and as
/// often as they are held.
pub(crate) fn staged_bytes(dim: usize, tile: RowTile, held: usize) -> usize {
    let tokens = tile.block * (padded(dim) + APART);
    let dims = padded(dim) * (tile.block + APART);
    let transposes = tile.spread == Spread::Quads;
    2 * if transposes {
        held * tokens
    } else {
        tokens + dims
    }
}

/// How a step's tokens come to shared memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Arrival {
    /// Through registers.
    Stored,
    /// By copies that run meanwhile, to the place that is read from.
    Copied,
    /// By copies that run meanwhile, to a place beside the one that is read from: the two take turns.
    CopiedBeside,
}

impl Arrival {
    /// Copies move 4, 8 or 16 bytes, of 16-bit elements in vectors of these widths.
    pub fn copies(spread: Spread, widths: [usize; 2]) -> bool {
        spread == Spread::Quads && widths.iter().all(|width| *width >= 2)
    }
}

/// The cube's barrier, behind which the copies that every unit began have arrived.
#[cube]
pub(crate) fn sync_tokens(#[comptime] arrival: Arrival) {
    if comptime!(arrival != Arrival::Stored) {
        copies_arrive();
    }
    sync_cube();
}

/// How the units of a cube divide the chunks of a step's tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Moves {
    /// A unit takes every `across`-th column of a token, `parts` of them: neighbours in one address.
    Columns {
        across: usize,
        parts: usize,
        turns: usize,
    },
    /// One chunk after the other, whatever its token.
    Chunks {
        chunks: usize,
        columns: usize,
        turns: usize,
    },
}

impl Moves {
    /// Of tokens of so many columns each.
    fn new(tokens: usize, columns: usize, units: usize) -> Self {
        // Eight units write all of the banks at once.
        let across = (1 << columns.trailing_zeros()).min(8);
        let rows = units / across;
        if across >= 4 && units.is_multiple_of(across) && tokens.is_multiple_of(rows) {
            let parts = columns / across;
            Self::Columns {
                across,
                parts,
                turns: tokens / rows * parts,
            }
        } else {
            let chunks = tokens * columns;
            Self::Chunks {
                chunks,
                columns,
                turns: chunks.div_ceil(units),
            }
        }
    }

    /// Chunks that a unit moves.
    fn turns(self) -> usize {
        match self {
            Self::Columns { turns, .. } | Self::Chunks { turns, .. } => turns,
        }
    }
}

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
            let held = comptime!(if arrival == Arrival::CopiedBeside {
                2
            } else {
                1
            });
            let length = comptime!(held * place_length(dim, tile));
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

    /// Begins to load the tokens from `token` on; into this `place`, 0 or 1, where there are two.
    pub fn fetch(&mut self, source: &[Vector<E, W>], stream: &Stream, token: usize, place: usize) {
        let moves = self.moves();
        match comptime!(moves) {
            Moves::Columns { across, parts, .. } => {
                // A unit stays in its columns: the end of the tokens is one address.
                let unit = UNIT_POS as usize;
                let column = stream.origin + unit % across * stream.dim_stride;
                let limit = column + stream.last * stream.token_stride;
                let step = comptime!(self.units / across) * stream.token_stride;
                let mut at = column + (token + unit / across) * stream.token_stride;
                #[unroll]
                for turn in 0..comptime!(moves.turns() / parts) {
                    let row = min(at, limit);
                    #[unroll]
                    for part in 0..parts {
                        let ahead = comptime!(part * across);
                        let turn = comptime!(turn * parts + part);
                        self.begin(source, row, ahead, stream.dim_stride, place, turn);
                    }
                    at += step;
                }
            }
            Moves::Chunks { .. } =>
            {
                #[unroll]
                for turn in 0..comptime!(moves.turns()) {
                    let (row, column) = self.chunk(turn);
                    let row = stream.origin + min(token + row, stream.last) * stream.token_stride;
                    let from = row + column * stream.dim_stride;
                    self.begin(source, from, 0usize, stream.dim_stride, place, turn);
                }
            }
        }
    }

    /// Begins to load the chunk of a turn, which lies `ahead` of what begins at `from`. Where copies move
    /// it, chunks are neighbours.
    fn begin(
        &mut self,
        source: &[Vector<E, W>],
        from: usize,
        #[comptime] ahead: usize,
        dim_stride: usize,
        place: usize,
        #[comptime] turn: usize,
    ) {
        let width = W::value();
        let stride = comptime!((padded(self.dim) + APART) / width);
        if comptime!(self.arrival == Arrival::Stored) {
            self.fetched[turn] = source[from + ahead * dim_stride];
        } else {
            let (row, column) = self.chunk(turn);
            let to = row * stride + column;
            let to = if comptime!(self.arrival == Arrival::CopiedBeside) {
                to + place * comptime!(place_length(self.dim, self.tile) / width)
            } else {
                to
            };
            let tokens = self.tokens.as_mut().unwrap();
            let tokens = tokens.as_vectorized_mut().with_vector_size_mut::<W>();
            copy_async::<Vector<E, W>>(source, from, ahead, tokens, to);
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
            let (row, column) = self.chunk(turn);
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

    /// The token and the column of the chunk that this unit moves in a turn.
    fn chunk(&self, #[comptime] turn: usize) -> (usize, usize) {
        let unit = UNIT_POS as usize;
        let moves = self.moves();
        match comptime!(moves) {
            Moves::Columns { across, parts, .. } => {
                let rows = comptime!(self.units / across);
                let row = unit / across + comptime!(turn / parts * rows);
                let column = unit % across + comptime!(turn % parts * across);
                (row, column)
            }
            Moves::Chunks {
                chunks, columns, ..
            } => {
                let chunk = comptime!(turn * self.units) + unit;
                let chunk = if comptime!((turn + 1) * self.units > chunks) {
                    // The last again, where there is none.
                    min(chunk, comptime!(chunks - 1).runtime())
                } else {
                    chunk
                };
                (chunk / columns, chunk % columns)
            }
        }
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

/// Where a lane's row of the first product's operand begins in a place.
#[cube]
fn dims_row(#[comptime] dim: usize, #[comptime] tile: RowTile) -> usize {
    let lane = UNIT_POS_PLANE as usize;
    let stride = comptime!(padded(dim) + APART);
    if comptime!(tile.spread == Spread::Quads) {
        (lane % 8 + lane / 16 * 8) * stride + lane / 8 % 2 * 8
    } else {
        lane % 16 * stride
    }
}

/// Where a lane's row of the second product's operand begins in a place.
#[cube]
fn tokens_row(#[comptime] dim: usize, #[comptime] tile: RowTile) -> usize {
    let lane = UNIT_POS_PLANE as usize;
    if comptime!(tile.spread == Spread::Quads) {
        lane % 16 * comptime!(padded(dim) + APART) + 8 * (lane / 16)
    } else {
        lane % 16 * comptime!(tile.block + APART)
    }
}

/// Elements of a step's tokens, token after token.
fn place_length(dim: usize, tile: RowTile) -> usize {
    tile.block * (padded(dim) + APART)
}

/// Shared memory for rows of `dim`: where they are padded, zeros.
#[cube]
fn zeroed<E: Float>(
    #[comptime] length: usize,
    #[comptime] dim: usize,
    #[comptime] units: usize,
) -> Shared<[E]> {
    let mut memory = Shared::<[E]>::new_aligned_slice(length, 16usize);
    if comptime!(!dim.is_multiple_of(DEPTH)) {
        for turn in 0..comptime!(length.div_ceil(units)) {
            let at = turn * units + UNIT_POS as usize;
            if at < length {
                memory[at] = E::from_int(0);
            }
        }
        sync_cube();
    }
    memory
}

/// Four matrices of 8 x 8, whose rows the lanes point at in turn.
#[cube]
fn load_matrices<E: Float, R: Size>(
    memory: &Shared<[E]>,
    row: usize,
    #[comptime] transpose: bool,
) -> Array<Vector<E, R>> {
    MmaDefinition::<E, E, f32>::new(16usize, 8usize, DEPTH).load_matrix::<E, R>(
        &memory[row..row + 8],
        MatrixIdent::B,
        4usize,
        transpose,
    )
}

/// A lane's vectors of the operand whose row begins at `row`.
#[cube]
fn read_operand<E: Float, R: Size>(
    memory: &Shared<[E]>,
    row: usize,
    #[comptime] spread: Spread,
) -> Array<Vector<E, R>> {
    let vectors = comptime!(spread.operand_vectors());
    let width = R::value();
    let mut operand = Array::<Vector<E, R>>::new(vectors);
    #[unroll]
    for v in 0..vectors {
        let start = row + operand_start(v, spread);
        operand[v] = memory.as_vectorized().with_vector_size::<R>()[start / width];
    }
    operand
}

#[cfg(test)]
mod tests {
    use super::Moves;

    #[test]
    fn units_move_whole_rows_of_banks_where_columns_and_tokens_divide() {
        let columns = |tokens, columns| Moves::new(tokens, columns, 128);
        let (across, parts) = (8, 2);
        let expected = Moves::Columns {
            across,
            parts,
            turns: 8,
        };
        assert_eq!(columns(64, 16), expected);
        // More units than chunks: the surplus would write where others do.
        let chunks = Moves::Chunks {
            chunks: 64,
            columns: 4,
            turns: 1,
        };
        assert_eq!(columns(16, 4), chunks);
        assert_eq!(columns(64, 59).turns(), 30);
    }
}
