//! Which rows a unit owns, and how far each query sees.

use cubecl::prelude::*;

use super::args::{Blueprint, Sizes};

/// The rows of one unit: queries of a head in the query walks, keys of a head in the key walk.
#[derive(CubeType)]
pub(crate) struct OwnedRows {
    pub batch: usize,
    pub head: usize,
    /// The first row of the tile that the unit works on, with its neighbours where a tile is
    /// shared by a cube.
    pub first: usize,
    /// One past the last row of the tile.
    pub end: usize,
    /// The row of each group and lane; rows from the sequence's length on do not exist.
    pub rows: Array<usize>,
}

/// Rows of one tile: of a unit, or of a cube.
#[cube]
fn rows_per_tile<N: Size>(#[comptime] blueprint: Blueprint) -> usize {
    let lanes = N::value();
    let owned = comptime!(blueprint.tile.groups * lanes);
    if comptime!(blueprint.tile_per_unit) {
        owned.runtime()
    } else {
        CUBE_DIM as usize * owned
    }
}

/// The tile that this unit works on.
#[cube]
pub(crate) fn tile_index(#[comptime] blueprint: Blueprint) -> usize {
    if comptime!(blueprint.tile_per_unit) {
        CUBE_POS * CUBE_DIM as usize + UNIT_POS as usize
    } else {
        CUBE_POS
    }
}

/// How many tiles cover `seq` rows of `heads` heads of `batch` sequences.
#[cube]
pub(crate) fn tile_count<N: Size>(
    batch: usize,
    heads: usize,
    seq: usize,
    #[comptime] blueprint: Blueprint,
) -> usize {
    batch * heads * seq.div_ceil(rows_per_tile::<N>(blueprint))
}

/// The rows of this unit in the given tile. Late rows come first: under a causal mask they are
/// the longest work.
#[cube]
pub(crate) fn own_rows<N: Size>(
    tile: usize,
    heads: usize,
    seq: usize,
    #[comptime] blueprint: Blueprint,
) -> OwnedRows {
    let lanes = N::value();
    let groups = comptime!(blueprint.tile.groups);
    let per_tile = rows_per_tile::<N>(blueprint);
    let tiles = seq.div_ceil(per_tile);
    let first = (tiles - 1 - tile % tiles) * per_tile;
    let pair = tile / tiles;
    let mut rows = Array::<usize>::new(comptime!(groups * lanes));
    #[unroll]
    for g in 0..groups {
        #[unroll]
        for lane in 0..lanes {
            let slot = comptime!(g * lanes + lane);
            rows[slot] = if comptime!(blueprint.tile_per_unit) {
                first + slot
            } else {
                first + g * CUBE_DIM as usize + UNIT_POS as usize
            };
        }
    }
    OwnedRows {
        batch: pair / heads,
        head: pair % heads,
        first,
        end: min(first + per_tile, seq),
        rows,
    }
}

/// How many keys a query sees: those below the returned number. None beyond the last query.
#[cube]
pub(crate) fn visible_keys(query: usize, sizes: &Sizes, #[comptime] causal: bool) -> usize {
    let mut visible = sizes.seq_kv;
    if comptime!(causal) {
        let reach = query + 1 + sizes.ahead;
        visible = min(sizes.seq_kv, max(reach, sizes.behind) - sizes.behind);
    }
    select(query < sizes.seq_q, visible, 0usize)
}

/// The first query that sees the key.
#[cube]
pub(crate) fn first_query(key: usize, sizes: &Sizes, #[comptime] causal: bool) -> usize {
    if comptime!(causal) {
        max(key + sizes.behind, sizes.ahead) - sizes.ahead
    } else {
        0usize.runtime()
    }
}
