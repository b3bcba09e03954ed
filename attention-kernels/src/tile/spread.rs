//! Which rows and tokens of a step a lane holds.

use cubecl::prelude::*;

use super::RowTile;

/// How the rows and tokens of a step are spread over lanes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Spread {
    /// A lane has rows of its own and meets every token: the `register` engine.
    Lane,
    /// Lanes of a cube share a row: the `register` engine, where there are fewer rows than lanes.
    Split {
        /// Rows of a cube.
        rows: usize,
        /// Of so many, each has a run of neighbouring tokens.
        lanes: usize,
        /// Each of these is so many neighbours of a plane, which share the chunks of dimensions.
        columns: usize,
    },
    /// Four lanes share the rows of a 16 x 8 tile; each has two of them, 8 apart, and two
    /// neighbouring tokens: the sums of NVIDIA's `m16n8k16`.
    Quads,
    /// Two lanes share a row of a 16 x 16 tile, and their tokens alternate: RDNA 3, where rows are
    /// the columns of the product.
    Alternating,
    /// Two lanes share a row of a 16 x 16 tile, 8 neighbouring tokens each: RDNA 4.
    Halves,
    /// So many lanes share a row of their plane, with a run of neighbouring tokens each: the `cmma`
    /// engine, where scores lie in shared memory.
    Runs {
        /// Rows of a plane.
        rows: usize,
        /// Lanes that share one.
        lanes: usize,
    },
}

impl Spread {
    /// Lanes that share a row.
    pub fn lanes_per_row(self) -> usize {
        match self {
            Self::Lane => 1,
            Self::Quads => 4,
            Self::Alternating | Self::Halves => 2,
            Self::Split { lanes, columns, .. } => lanes * columns,
            Self::Runs { lanes, .. } => lanes,
        }
    }

    /// Lanes of a row whose tokens differ.
    pub fn lanes_per_token(self) -> usize {
        match self {
            Self::Split { lanes, .. } => lanes,
            _ => self.lanes_per_row(),
        }
    }

    /// Lanes that share the dimensions of a row in turns, as its chunks follow each other.
    pub fn columns(self) -> usize {
        match self {
            Self::Split { columns, .. } => columns,
            _ => 1,
        }
    }

    /// Rows of one tile that a lane has.
    pub fn groups_per_tile(self) -> usize {
        match self {
            Self::Quads => 2,
            Self::Lane
            | Self::Split { .. }
            | Self::Alternating
            | Self::Halves
            | Self::Runs { .. } => 1,
        }
    }

    /// Tokens, or dimensions, across a tile of sums.
    pub fn tile_width(self) -> usize {
        match self {
            Self::Lane | Self::Split { .. } | Self::Runs { .. } => 1,
            Self::Quads => 8,
            Self::Alternating | Self::Halves => 16,
        }
    }
}

impl RowTile {
    /// Tokens of a step that a lane has.
    pub fn slots(&self) -> usize {
        self.block / self.spread.lanes_per_token()
    }
}

/// The `slot`-th token that this lane has of the step that begins at `token`.
#[cube]
pub(crate) fn slot_token(token: usize, slot: usize, #[comptime] tile: RowTile) -> usize {
    token + slots_start(tile) + slot_offset(slot, tile)
}

/// How far this lane's first token of a step lies behind the step's.
#[cube]
pub(crate) fn slots_start(#[comptime] tile: RowTile) -> usize {
    match comptime!(tile.spread) {
        Spread::Split { rows, columns, .. } => {
            UNIT_POS as usize / comptime!(rows * columns) * tile.slots()
        }
        Spread::Runs { rows, lanes } => {
            if comptime!(lanes == 1) {
                0usize.runtime()
            } else {
                UNIT_POS_PLANE as usize / rows * tile.slots()
            }
        }
        _ => lane_start(tile.spread),
    }
}

/// How far the `slot`-th token of a lane lies behind its first.
#[cube]
pub(crate) fn slot_offset(slot: usize, #[comptime] tile: RowTile) -> usize {
    match comptime!(tile.spread) {
        Spread::Lane | Spread::Split { .. } | Spread::Runs { .. } => slot,
        Spread::Quads => 8 * (slot / 2) + slot % 2,
        Spread::Alternating => 16 * (slot / 8) + 2 * (slot % 8),
        Spread::Halves => 16 * (slot / 8) + slot % 8,
    }
}

/// The first token, or dimension, that this lane has of a tile.
#[cube]
pub(crate) fn lane_start(#[comptime] spread: Spread) -> usize {
    // A device without planes must not hear of them.
    match comptime!(spread) {
        Spread::Lane | Spread::Split { .. } | Spread::Runs { .. } => 0usize.runtime(),
        Spread::Quads => 2 * (UNIT_POS_PLANE as usize % 4),
        Spread::Alternating => UNIT_POS_PLANE as usize / 16,
        Spread::Halves => 8 * (UNIT_POS_PLANE as usize / 16),
    }
}

/// The first chunk of a row's dimensions that this lane has.
#[cube]
pub(crate) fn first_chunk(#[comptime] tile: RowTile) -> usize {
    let columns = comptime!(tile.spread.columns());
    if comptime!(columns > 1) {
        UNIT_POS as usize % columns
    } else {
        0usize.runtime()
    }
}

/// Sums over the lanes that share the dimensions of a row, of a step's products of each.
#[cube]
pub(crate) fn sum_columns<N: Size>(
    products: &mut Array<Vector<f32, N>>,
    #[comptime] tile: RowTile,
) {
    let halvings = comptime!(tile.spread.columns().ilog2());
    if comptime!(halvings > 0) {
        #[unroll]
        for slot in 0..comptime!(tile.slots() * tile.groups) {
            let mut sum = products[slot].extract(0usize);
            #[unroll]
            for halving in 0..halvings {
                sum += plane_shuffle_xor(sum, comptime!(1u32 << halving));
            }
            products[slot] = Vector::new(sum);
        }
    }
}

/// The row of this lane's group `g` among the rows of its cube.
#[cube]
pub(crate) fn group_row(#[comptime] g: usize, #[comptime] tile: RowTile) -> usize {
    let lane = UNIT_POS_PLANE as usize;
    let per_plane = comptime!(16 * tile.groups / tile.spread.groups_per_tile());
    let first = PLANE_POS as usize * per_plane;
    match comptime!(tile.spread) {
        Spread::Quads => first + lane / 4 + group_offset(g, tile),
        Spread::Runs { rows, .. } => PLANE_POS as usize * rows + lane % rows,
        _ => first + lane % 16 + group_offset(g, tile),
    }
}

/// How far the row of this lane's group `g` lies behind that of its first.
#[cube]
pub(crate) fn group_offset(#[comptime] g: usize, #[comptime] tile: RowTile) -> usize {
    let offset = comptime!(match tile.spread {
        Spread::Quads => 16 * (g / 2) + 8 * (g % 2),
        _ => 16 * g,
    });
    offset.runtime()
}
