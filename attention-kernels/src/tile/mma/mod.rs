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
//! Dimensions are padded with zeros to a multiple of [`DEPTH`]. Elements of f32 are sums of several of 16 bits
//! ([`attention_terms`]), whose products are summed.

use cubecl::{cmma::MmaDefinition, prelude::*};

use super::{RowTile, Spread};

mod arrival;
mod diagonal;
mod memory;
mod operand;
mod product;
mod rows;
mod staged;
mod sums;
mod terms;
mod track;

pub(crate) use arrival::{Arrival, Reads, staged_bytes, sync_tokens};
pub(crate) use diagonal::{has_row_products, row_products};
pub(crate) use product::{matrix_accumulate, matrix_products};
pub(crate) use rows::{Rows, row_bytes};
pub(crate) use staged::Staged;
pub(crate) use sums::{
    Sums, row_highest, row_total, scale_sums, set_aside, store_sums, writes_row,
};
pub(crate) use terms::{F32_TERMS, attention_terms};
pub(crate) use track::{Together, Tracks};

/// A lane's part of an operand, for each of its terms.
type Operand<E, R> = Sequence<Array<Vector<E, R>>>;

/// Rows of a tile, and dimensions or tokens that one instruction multiplies over.
pub(crate) const DEPTH: usize = 16;

impl Spread {
    /// Vectors that a lane holds of an operand of 16 x 16.
    pub(crate) fn operand_vectors(self) -> usize {
        match self {
            Self::Quads => 4,
            Self::Alternating => 2,
            Self::Lane | Self::Split { .. } | Self::Halves | Self::Runs { .. } => 1,
        }
    }

    /// Vectors that a lane holds of an operand that is as wide as a tile of sums.
    pub(crate) fn narrow_vectors(self) -> usize {
        match self {
            Self::Quads => 2,
            _ => self.operand_vectors(),
        }
    }

    /// Elements of an operand's vector.
    pub(crate) fn operand_width(self) -> usize {
        match self {
            Self::Lane | Self::Split { .. } | Self::Runs { .. } => 1,
            Self::Quads => 2,
            Self::Alternating | Self::Halves => 8,
        }
    }

    /// Vectors that a lane holds of a tile of sums.
    pub(crate) fn sum_vectors(self) -> usize {
        match self {
            Self::Lane | Self::Split { .. } | Self::Runs { .. } => 1,
            Self::Quads => 2,
            Self::Alternating | Self::Halves => 8,
        }
    }

    /// Elements of a vector of sums.
    pub(crate) fn sum_width(self) -> usize {
        match self {
            Self::Quads => 2,
            _ => 1,
        }
    }
}

/// The tile as this device's registers have it: which of RDNA's two layouts it is, only the compiler
/// knows.
#[cube]
pub(crate) fn as_laid_out(#[comptime] tile: RowTile) -> comptime_type!(RowTile) {
    intrinsic!(|scope| {
        let registers = &scope.state().target_properties.mma;
        let spread = match tile.spread {
            Spread::Alternating if registers.register_duplication_a == 1 => Spread::Halves,
            spread => spread,
        };
        RowTile { spread, ..tile }
    })
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
