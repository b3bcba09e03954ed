//! The `mma` engine: matrix instructions whose register layout is known.
//!
//! The units of a plane own 16 rows, or several times 16, whose tokens pass through shared memory.
//! Scores are the sums of the first product and stay in registers: a row's maximum and sum take
//! shuffles between the lanes that share it, and what the softmax leaves is rounded and becomes the
//! second product's operand where it lies ([`weight_operand`]).
//!
//! NVIDIA's `m16n8k16` has rows as the rows of its sums. RDNA's 16 x 16 x 16 holds a column of its sums
//! in each lane, so that there rows are the columns: both products are transposed, and a lane keeps
//! a row as well ([`Spread`]).
//!
//! Dimensions are padded with zeros to a multiple of [`DEPTH`].

use cubecl::{cmma::MmaDefinition, prelude::*};

use super::{RowTile, Spread};

mod operand;
mod product;
mod rows;
mod staged;

use operand::weight_operand;
pub(crate) use product::{matrix_accumulate, matrix_products};
pub(crate) use rows::{row_highest, row_operand, row_total, scale_sums, store_sums, writes_row};
pub(crate) use staged::{Reads, Staged, staged_bytes};

/// Rows of a tile, and dimensions or tokens that one instruction multiplies over.
pub(crate) const DEPTH: usize = 16;

impl Spread {
    /// Vectors that a lane holds of an operand of 16 x 16.
    pub(crate) fn operand_vectors(self) -> usize {
        match self {
            Self::Quads => 4,
            Self::Alternating => 2,
            Self::Lane | Self::Halves => 1,
        }
    }

    /// Vectors that a lane holds of an operand that is as wide as a tile of sums.
    pub(crate) fn narrow_vectors(self) -> usize {
        match self {
            Self::Quads => 2,
            Self::Lane | Self::Alternating | Self::Halves => self.operand_vectors(),
        }
    }

    /// Elements of an operand's vector.
    pub(crate) fn operand_width(self) -> usize {
        match self {
            Self::Lane => 1,
            Self::Quads => 2,
            Self::Alternating | Self::Halves => 8,
        }
    }

    /// Vectors that a lane holds of a tile of sums.
    pub(crate) fn sum_vectors(self) -> usize {
        match self {
            Self::Lane => 1,
            Self::Quads => 2,
            Self::Alternating | Self::Halves => 8,
        }
    }

    /// Elements of a vector of sums.
    pub(crate) fn sum_width(self) -> usize {
        match self {
            Self::Quads => 2,
            Self::Lane | Self::Alternating | Self::Halves => 1,
        }
    }
}

/// The padded length of a row.
pub(crate) fn padded(dim: usize) -> usize {
    dim.next_multiple_of(DEPTH)
}

/// `sums += rows * tokens` for one instruction.
#[cube]
fn multiply<E: Float, R: Size, C: Size>(
    rows: &Array<Vector<E, R>>,
    tokens: &Array<Vector<E, R>>,
    sums: &mut Array<Vector<f32, C>>,
    #[comptime] spread: Spread,
) {
    if comptime!(spread == Spread::Quads) {
        MmaDefinition::<E, E, f32>::new(16usize, 8usize, DEPTH).execute_inplace(rows, tokens, sums);
    } else {
        MmaDefinition::<E, E, f32>::new(16usize, 16usize, DEPTH)
            .execute_inplace(tokens, rows, sums);
    }
}

/// What a lane's sums are of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Sums {
    /// Dimensions of a row.
    pub dim: usize,
    /// One more tile, whose every dimension is the sum of the row's weights.
    pub counts: bool,
}

impl Sums {
    /// Tiles of sums that hold dimensions.
    pub fn tiles(self, tile: RowTile) -> usize {
        padded(self.dim) / tile.spread.tile_width()
    }

    /// Vectors of a tile of rows.
    pub fn row_tile(self, tile: RowTile) -> usize {
        (self.tiles(tile) + usize::from(self.counts)) * tile.spread.sum_vectors()
    }

    /// Vectors of all rows.
    pub fn length(self, tile: RowTile) -> usize {
        tile.groups / tile.spread.groups_per_tile() * self.row_tile(tile)
    }

    /// Where the sum of a row's weights lies.
    pub fn count(self, g: usize, tile: RowTile) -> usize {
        let of_tile = tile.spread.groups_per_tile();
        let first = self.tiles(tile) * tile.spread.sum_vectors();
        g / of_tile * self.row_tile(tile) + first + g % of_tile
    }
}
