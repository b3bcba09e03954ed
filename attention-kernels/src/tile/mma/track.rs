//! Where the tokens lie that units move to shared memory, step by step.

use cubecl::prelude::*;

use super::{arrival::Moves, staged::Staged};
use crate::tile::{RowTile, Stream};

/// What a unit moves of one tensor's tokens.
#[derive(CubeType)]
pub(super) struct Track {
    stream: Stream,
    /// The step's first token.
    token: usize,
    /// Where the rows begin in which this unit has columns of its own, where copies leave the registers for it.
    rows: Array<usize>,
    /// From a row to that of the next step.
    step: usize,
    #[cube(comptime)]
    moves: Moves,
    #[cube(comptime)]
    units: usize,
    #[cube(comptime)]
    block: usize,
    #[cube(comptime)]
    together: Together,
}

#[cube]
impl Track {
    /// Of tokens of `dim` dimensions in vectors of `width`.
    pub fn new(
        stream: Stream,
        zero: usize,
        #[comptime] dim: usize,
        #[comptime] width: usize,
        #[comptime] units: usize,
        #[comptime] tile: RowTile,
        #[comptime] together: Together,
    ) -> Track {
        let block = comptime!(tile.block);
        let moves = comptime!(Moves::new(block, dim / width, units));
        let mut rows = Array::<usize>::new(comptime!(moves.rows().max(1)));
        #[unroll]
        for row in 0..comptime!(moves.rows()) {
            rows[row] = 0;
        }
        // Without `zero`, which no compiler knows, it would be multiplied anew for every row and step.
        let step = block * stream.token_stride + zero;
        Track {
            stream,
            token: 0usize.runtime(),
            rows,
            step,
            moves,
            units,
            block,
            together,
        }
    }

    /// Turns to the step that begins at `token`.
    pub fn seek(&mut self, token: usize) {
        self.token = token;
        if comptime!(self.together.held) {
            #[unroll]
            for row in 0..comptime!(self.moves.rows()) {
                self.rows[row] = self.row(row);
            }
        }
    }

    /// Where a row begins: the end of the tokens is one address, for a unit stays in its columns.
    fn row(&self, #[comptime] row: usize) -> usize {
        let across = comptime!(self.moves.across());
        let ahead = comptime!(row * (self.units / across)) * self.stream.token_stride;
        let first = self.token + UNIT_POS as usize / across;
        min(
            self.column() + first * self.stream.token_stride + ahead,
            self.limit(),
        )
    }

    /// Turns to the step after, which begins at `token`. Rows that have reached the end of the tokens stay there.
    pub fn advance(&mut self, token: usize) {
        if comptime!(self.together.follows && self.together.held) {
            self.token += self.block;
            let limit = self.limit();
            #[unroll]
            for row in 0..comptime!(self.moves.rows()) {
                self.rows[row] = min(self.rows[row] + self.step, limit);
            }
        } else {
            self.seek(token);
        }
    }

    /// Where the first chunk of this turn's row begins: the others are constants away.
    pub fn from(&self, #[comptime] turn: usize) -> usize {
        match comptime!(self.moves) {
            Moves::Columns { parts, .. } => {
                let row = comptime!(turn / parts);
                if comptime!(self.together.held) {
                    self.rows[row]
                } else {
                    self.row(row)
                }
            }
            Moves::Chunks { .. } => {
                let (row, column) = chunk(turn, self.moves, self.units);
                self.stream.origin
                    + min(self.token + row, self.stream.last) * self.stream.token_stride
                    + column * self.stream.dim_stride
            }
        }
    }

    /// From a chunk of a token to the next.
    pub fn dim_stride(&self) -> usize {
        self.stream.dim_stride
    }

    /// Where this unit's first column begins in token 0.
    fn column(&self) -> usize {
        let across = comptime!(self.moves.across());
        self.stream.origin + UNIT_POS as usize % across * self.stream.dim_stride
    }

    /// The same in the last token.
    fn limit(&self) -> usize {
        self.column() + self.stream.last * self.stream.token_stride
    }
}

/// The token and the column of the chunk that this unit moves in a turn.
#[cube]
pub(super) fn chunk(
    #[comptime] turn: usize,
    #[comptime] moves: Moves,
    #[comptime] units: usize,
) -> (usize, usize) {
    let unit = UNIT_POS as usize;
    match comptime!(moves) {
        Moves::Columns { across, .. } => {
            let (rows, columns) = comptime!(moves.behind(turn, units));
            (unit / across + rows, unit % across + columns)
        }
        Moves::Chunks {
            chunks, columns, ..
        } => {
            let chunk = comptime!(turn * units) + unit;
            let chunk = if comptime!((turn + 1) * units > chunks) {
                // The last again, where there is none.
                min(chunk, comptime!(chunks - 1).runtime())
            } else {
                chunk
            };
            (chunk / columns, chunk % columns)
        }
    }
}

/// How two tensors' tokens come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Together {
    /// A step begins where the one before it ended.
    pub follows: bool,
    /// Both tensors have the same shape and strides.
    pub alike: bool,
    /// Units have registers to hold where rows begin.
    pub held: bool,
}

/// The tracks of two tensors whose tokens come in the same steps.
#[derive(CubeType)]
pub(crate) struct Tracks {
    first: Track,
    /// None where both tensors lie alike.
    second: ComptimeOption<Track>,
}

#[cube]
impl Tracks {
    /// Of tokens of these dimensions, loaded in vectors of `W` and `WV`.
    pub fn new<W: Size, WV: Size>(
        first: Stream,
        second: Stream,
        zero: usize,
        #[comptime] dims: [usize; 2],
        #[comptime] units: usize,
        #[comptime] tile: RowTile,
        #[comptime] together: Together,
    ) -> Tracks {
        let (width, second_width) = (W::value(), WV::value());
        let second = if comptime!(together.alike) {
            ComptimeOption::new_None()
        } else {
            let dim = comptime!(dims[1]);
            let track = Track::new(second, zero, dim, second_width, units, tile, together);
            ComptimeOption::new_Some(track)
        };
        Tracks {
            first: Track::new(
                first,
                zero,
                comptime!(dims[0]),
                width,
                units,
                tile,
                together,
            ),
            second,
        }
    }

    /// Turns to the step that begins at `token`.
    pub fn seek(&mut self, token: usize) {
        self.first.seek(token);
        #[comptime]
        match &mut self.second {
            ComptimeOption::Some(second) => second.seek(token),
            ComptimeOption::None => {}
        }
    }

    /// Turns to the step after, which begins at `token`.
    pub fn advance(&mut self, token: usize) {
        self.first.advance(token);
        #[comptime]
        match &mut self.second {
            ComptimeOption::Some(second) => second.advance(token),
            ComptimeOption::None => {}
        }
    }

    /// Begins to load the first tensor's tokens.
    pub fn fetch_first<E: Float, W: Size>(
        &self,
        staged: &mut Staged<E, W>,
        source: &[Vector<E, W>],
        place: usize,
    ) {
        staged.fetch(source, &self.first, place);
    }

    /// Begins to load the second tensor's tokens.
    pub fn fetch_second<E: Float, W: Size>(
        &self,
        staged: &mut Staged<E, W>,
        source: &[Vector<E, W>],
        place: usize,
    ) {
        #[comptime]
        match &self.second {
            ComptimeOption::Some(second) => staged.fetch(source, second, place),
            ComptimeOption::None => staged.fetch(source, &self.first, place),
        }
    }
}
