//! The `cmma` engine: cooperative matrices, whose fragments only the device can read.
//!
//! A plane owns rows, which stay with it as fragments, and a piece of shared memory. Products of a
//! step with all rows go there; each lane reads a run of neighbouring tokens of one row
//! ([`Spread::Runs`](super::Spread::Runs)), and what the softmax leaves goes back as the operand of
//! the second product. No plane touches the piece of another, so that a step needs block barriers for
//! its tokens only, which all planes read.
//!
//! Sums over the tokens stay fragments. To multiply rows of them by numbers, or to write them, they
//! pass through the same piece of shared memory.
//!
//! Dimensions are padded with zeros to whole fragments.

use cubecl::prelude::*;

use super::{RowTile, Spread};

mod operands;
mod plane_rows;
mod scratch;
mod sums;
mod tokens;

pub(crate) use operands::RowOperands;
pub(crate) use scratch::Scratch;
pub(crate) use sums::FragmentSums;
pub(crate) use tokens::Tokens;

use scratch::{score_stride, weight_stride};

/// Elements of a vector in shared memory.
const QUAD: usize = 4;

type Quad = Const<QUAD>;

/// Elements that set a token apart from the next, so that rows of fragments meet different banks.
const TOKENS_APART: usize = 8;

/// The fragments of a device, and how planes divide rows and tokens into them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct PlaneTile {
    /// Rows of a fragment of sums.
    pub m: usize,
    /// Columns of a fragment of sums.
    pub n: usize,
    /// What one instruction multiplies over.
    pub k: usize,
    /// Planes of a cube.
    pub planes: usize,
    /// Rows of a plane.
    pub rows: usize,
    /// Lanes that share a row.
    pub lanes: usize,
    /// Tokens of a step.
    pub block: usize,
    /// Whether the lanes of a plane can vote.
    pub votes: bool,
    /// Rows and sums lie in shared memory instead of fragments that are held, and tokens are not fetched
    /// ahead: loops stay loops. What is unrolled, a software rasterizer compiles for seconds.
    pub lent: bool,
}

impl PlaneTile {
    /// Units of a cube.
    pub fn units(self) -> usize {
        self.planes * self.rows * self.lanes
    }

    /// Tokens of a step that a lane has.
    pub fn run(self) -> usize {
        self.block / self.lanes
    }

    /// The padded length of a row.
    pub fn padded(self, dim: usize) -> usize {
        dim.next_multiple_of(self.n.max(self.k))
    }

    /// The tile as the walks over scores know it.
    pub fn row_tile(self, dim: usize) -> RowTile {
        RowTile {
            groups: 1,
            tokens: self.block,
            block: self.block,
            dims: dim,
            unroll: true,
            staged: false,
            unpacks: false,
            widened: false,
            lent: false,
            spread: Spread::Runs {
                rows: self.rows,
                lanes: self.lanes,
            },
            terms: 1,
        }
    }

    /// Bytes of shared memory that a cube takes to walk over tokens of these dimensions, with
    /// elements of 16 bits, rows of as many as `rows` and sums of as many as `sums`.
    pub fn bytes(self, tokens: [usize; 2], rows: &[usize], sums: &[usize]) -> usize {
        let staged = tokens.map(|dim| 2 * self.block * self.token_stride(dim));
        let mut row = 4 * score_stride(self.block) + 2 * weight_stride(self.block);
        if self.lent {
            let stride = |dim: &usize| 2 * weight_stride(self.padded(*dim));
            row += rows.iter().map(stride).sum::<usize>();
            let stride = |dim: &usize| 4 * score_stride(self.padded(*dim));
            row += sums.iter().map(stride).sum::<usize>();
        }
        let moves = if self.votes { 0 } else { 4 * self.units() };
        staged[0] + staged[1] + self.planes * self.rows * row + moves
    }

    fn row_tiles(self) -> usize {
        self.rows / self.m
    }

    fn token_stride(self, dim: usize) -> usize {
        self.padded(dim) + TOKENS_APART
    }

    /// Pieces that rows of `dim` pass through shared memory in.
    fn pieces(self, dim: usize) -> usize {
        self.padded(dim).div_ceil(self.block)
    }

    /// Dimensions of a piece.
    fn piece_columns(self, dim: usize, piece: usize) -> usize {
        (self.padded(dim) - piece * self.block).min(self.block)
    }
}

/// The row of its plane that this lane has a run of.
#[cube]
fn lane_row(#[comptime] tile: PlaneTile) -> usize {
    if comptime!(tile.lanes == 1) {
        UNIT_POS_PLANE as usize
    } else {
        UNIT_POS_PLANE as usize % tile.rows
    }
}

/// Which run of its row this lane has.
#[cube]
fn lane_part(#[comptime] tile: PlaneTile) -> usize {
    if comptime!(tile.lanes == 1) {
        0usize.runtime()
    } else {
        UNIT_POS_PLANE as usize / tile.rows
    }
}

/// The sum over the lanes that share a row.
#[cube]
pub(crate) fn run_total(value: f32, #[comptime] tile: PlaneTile) -> f32 {
    let mut total = value;
    #[unroll]
    for turn in 0..comptime!(tile.lanes.ilog2() as usize) {
        total += plane_shuffle_xor(total, comptime!((tile.rows << turn) as u32));
    }
    total
}

/// The largest over the lanes that share a row.
#[cube]
pub(crate) fn run_highest(value: f32, #[comptime] tile: PlaneTile) -> f32 {
    let mut highest = value;
    #[unroll]
    for turn in 0..comptime!(tile.lanes.ilog2() as usize) {
        highest = max(
            highest,
            plane_shuffle_xor(highest, comptime!((tile.rows << turn) as u32)),
        );
    }
    highest
}

/// Whether this lane is the one that writes what its row has one of.
#[cube]
pub(crate) fn leads_row(#[comptime] tile: PlaneTile) -> bool {
    lane_part(tile) == 0
}
