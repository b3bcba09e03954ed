//! How tokens come to shared memory: what is read of them, by which copies, and who moves what.

use cubecl::prelude::*;

use super::{memory::APART, padded};
use crate::{
    copy_async::copies_arrive,
    tile::{RowTile, Spread},
};

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
    /// `copied`, where copies can be: they move 4, 8 or 16 bytes, of 16-bit elements in vectors of these
    /// widths.
    pub fn new(spread: Spread, widths: [usize; 2], copied: Self) -> Self {
        if spread == Spread::Quads && widths.iter().all(|width| *width >= 2) {
            copied
        } else {
            Self::Stored
        }
    }

    /// Places that take turns.
    pub fn places(self) -> usize {
        match self {
            Self::Stored | Self::Copied => 1,
            Self::CopiedBeside => 2,
        }
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
pub(super) enum Moves {
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
    pub fn new(tokens: usize, columns: usize, units: usize) -> Self {
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
    pub fn turns(self) -> usize {
        match self {
            Self::Columns { turns, .. } | Self::Chunks { turns, .. } => turns,
        }
    }

    /// Rows that a unit reads in columns of its own.
    pub fn rows(self) -> usize {
        match self {
            Self::Columns { parts, turns, .. } => turns / parts,
            Self::Chunks { .. } => 0,
        }
    }

    /// Units that share a row, and columns from one chunk of a unit to its next in that row.
    pub fn across(self) -> usize {
        match self {
            Self::Columns { across, .. } => across,
            Self::Chunks { columns, .. } => columns,
        }
    }

    /// The turn whose chunk one of `turn` is so far [`behind`](Self::behind).
    pub fn first(self, turn: usize) -> usize {
        match self {
            Self::Columns { .. } => 0,
            Self::Chunks { .. } => turn,
        }
    }

    /// Rows and columns between the chunk of a unit's turn and that of its [`first`](Self::first).
    pub fn behind(self, turn: usize, units: usize) -> (usize, usize) {
        match self {
            Self::Columns { across, parts, .. } => {
                (turn / parts * (units / across), turn % parts * across)
            }
            Self::Chunks { .. } => (0, 0),
        }
    }
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

    #[test]
    fn a_units_chunks_are_constants_behind_its_first_where_it_has_columns_of_its_own() {
        let columns = Moves::new(64, 16, 128);
        assert_eq!((columns.rows(), columns.first(3)), (4, 0));
        assert_eq!(columns.behind(0, 128), (0, 0));
        assert_eq!(columns.behind(3, 128), (16, 8));
        let chunks = Moves::new(64, 59, 128);
        assert_eq!((chunks.rows(), chunks.first(3)), (0, 3));
        assert_eq!(chunks.behind(3, 128), (0, 0));
    }
}
