//! Which rows a unit owns, and how far each query sees.

use cubecl::prelude::*;

use super::args::{Blueprint, Claims, Layout, Sizes};
use crate::tile::{RowTile, Spread, group_row, load_rows};

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

#[cube]
impl OwnedRows {
    /// The rows in registers.
    pub fn load<E: Float, N: Size, R: Size, W: Size>(
        &self,
        source: &[Vector<E, W>],
        layout: &Layout,
        length: usize,
        #[comptime] dim: usize,
        #[comptime] tile: RowTile,
    ) -> Array<Vector<f32, R>> {
        self.load_of::<E, N, R, W>(self.head, source, layout, length, dim, tile)
    }

    /// The same rows of another head.
    pub fn load_of<E: Float, N: Size, R: Size, W: Size>(
        &self,
        head: usize,
        source: &[Vector<E, W>],
        layout: &Layout,
        length: usize,
        #[comptime] dim: usize,
        #[comptime] tile: RowTile,
    ) -> Array<Vector<f32, R>> {
        load_rows::<E, N, R, W>(
            source, layout, self.batch, head, &self.rows, length, dim, tile,
        )
    }
}

/// Rows of one tile: of a unit, or of a cube.
#[cube]
fn rows_per_tile<N: Size>(#[comptime] blueprint: Blueprint) -> comptime_type!(usize) {
    let lanes = N::value();
    comptime!(
        blueprint.tile.groups
            * lanes
            * if blueprint.tile_per_unit {
                1
            } else {
                blueprint.units / blueprint.tile.spread.lanes_per_row()
            }
    )
}

/// The tile of its head that this unit works on, or may claim. Where units have tiles of their own, they take
/// turns from head to head, so that heads with few tiles keep all of them busy.
#[cube]
pub(crate) fn tile_index(#[comptime] blueprint: Blueprint) -> usize {
    if comptime!(blueprint.tile_per_unit && !blueprint.claims_tiles) {
        let turn = UNIT_POS as usize + CUBE_POS_Y as usize + CUBE_POS_Z as usize;
        CUBE_POS_X as usize * blueprint.units + turn % blueprint.units
    } else {
        CUBE_POS_X as usize
    }
}

/// Whether this unit is to work on its tile, or on its rows of it.
#[cube]
pub(crate) fn is_claimed(
    claims: &ComptimeOption<Claims>,
    #[comptime] blueprint: Blueprint,
) -> bool {
    let mut own = true.runtime();
    #[comptime]
    match claims {
        ComptimeOption::Some(claims) => {
            let place = if comptime!(blueprint.tile_per_unit) {
                CUBE_POS
            } else {
                let cubes = CUBE_COUNT_X as usize * CUBE_COUNT_Y as usize;
                let cube = cube_batch(blueprint) * cubes
                    + CUBE_POS_Y as usize * CUBE_COUNT_X as usize
                    + CUBE_POS_X as usize;
                cube * blueprint.units + UNIT_POS as usize
            };
            own = claims.arrivals[place].fetch_add(1) == 0;
        }
        ComptimeOption::None => {}
    }
    own
}

/// The element of the batch that this cube works for.
#[cube]
fn cube_batch(#[comptime] blueprint: Blueprint) -> usize {
    let copies = comptime!(blueprint.copies);
    if comptime!(copies == 1) {
        CUBE_POS_Z as usize
    } else {
        CUBE_POS_Z as usize % (CUBE_COUNT_Z as usize / copies)
    }
}

/// How many tiles cover the `seq` rows of a head.
#[cube]
pub(crate) fn tile_count<N: Size>(seq: usize, #[comptime] blueprint: Blueprint) -> usize {
    seq.div_ceil(rows_per_tile::<N>(blueprint).runtime())
}

/// The rows of this unit in the given tile. Head and batch are the cube's, without a division: the CPU
/// runtime's compiler repeats divisions at every load whose address they are part of.
#[cube]
pub(crate) fn own_rows<N: Size>(
    tile: usize,
    seq: usize,
    #[comptime] blueprint: Blueprint,
) -> OwnedRows {
    tile_of::<N>(
        cube_batch(blueprint),
        CUBE_POS_Y as usize,
        tile,
        seq,
        blueprint,
    )
}

/// The rows of this unit in a tile of any head. Late rows come first: under a causal mask they are the longest
/// work.
#[cube]
pub(crate) fn tile_of<N: Size>(
    batch: usize,
    head: usize,
    tile: usize,
    seq: usize,
    #[comptime] blueprint: Blueprint,
) -> OwnedRows {
    let lanes = N::value();
    let groups = comptime!(blueprint.tile.groups);
    let per_tile = rows_per_tile::<N>(blueprint);
    let first = (tile_count::<N>(seq, blueprint) - 1 - tile) * per_tile;
    let mut rows = Array::<usize>::new(comptime!(groups * lanes));
    #[unroll]
    for g in 0..groups {
        #[unroll]
        for lane in 0..lanes {
            let slot = comptime!(g * lanes + lane);
            rows[slot] = if comptime!(blueprint.tile_per_unit) {
                first + slot
            } else {
                match comptime!(blueprint.tile.spread) {
                    Spread::Lane => first + comptime!(g * blueprint.units) + UNIT_POS as usize,
                    Spread::Split { rows, columns, .. } => {
                        first + UNIT_POS as usize / columns % rows
                    }
                    _ => first + group_row(g, blueprint.tile),
                }
            };
        }
    }
    OwnedRows {
        batch,
        head,
        first,
        end: min(first + per_tile, seq),
        rows,
    }
}

/// The key head that a query head reads.
#[cube]
pub(crate) fn key_head(head: usize, #[comptime] blueprint: Blueprint) -> usize {
    if comptime!(blueprint.group == 1) {
        head
    } else {
        head / blueprint.group
    }
}

/// The value head that goes with a key head.
#[cube]
pub(crate) fn value_head(key_head: usize, #[comptime] blueprint: Blueprint) -> usize {
    if comptime!(blueprint.value_group == 1) {
        key_head
    } else {
        key_head / blueprint.value_group
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

/// How many tokens of the step that begins at `token` come before `end`.
#[cube]
pub(crate) fn remaining(token: usize, end: usize, #[comptime] tile: RowTile) -> usize {
    min(max(end, token) - token, comptime!(tile.block).runtime())
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
