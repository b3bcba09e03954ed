//! The kernels that make a map: what is left of each tile, then the lists.

use cubecl::prelude::*;

use crate::modification::{CapturedData, Code, Place, in_lanes, visible};

/// What a mask leaves of a tile.
pub(crate) const EMPTY: u32 = 0;
pub(crate) const PARTIAL: u32 = 1;
pub(crate) const FULL: u32 = 2;

/// The sizes of a map.
#[derive(CubeType, CubeLaunch, Clone, Copy)]
#[expand(derive(Clone))]
pub(crate) struct MapSizes {
    pub batch: usize,
    pub heads: usize,
    pub seq_q: usize,
    pub seq_kv: usize,
    pub block_q: usize,
    pub block_kv: usize,
    pub q_blocks: usize,
    pub kv_blocks: usize,
}

/// One unit per tile: `states [batch, heads, q_blocks, kv_blocks]`. The lanes are queries.
#[cube(launch_unchecked, address_type = "dynamic")]
pub(crate) fn classify_tiles<N: Size>(
    states: &mut [u32],
    sizes: MapSizes,
    captured: CapturedData,
    #[comptime] code: Code,
) {
    let tiles = sizes.batch * sizes.heads * sizes.q_blocks * sizes.kv_blocks;
    if ABSOLUTE_POS < tiles {
        let width = N::value();
        let key_block = ABSOLUTE_POS % sizes.kv_blocks;
        let rest = ABSOLUTE_POS / sizes.kv_blocks;
        let query_block = rest % sizes.q_blocks;
        let pair = rest / sizes.q_blocks;
        let first_query = query_block * sizes.block_q;
        let end_query = min(first_query + sizes.block_q, sizes.seq_q);
        let first_key = key_block * sizes.block_kv;
        let end_key = min(first_key + sizes.block_kv, sizes.seq_kv);

        let mut seen = Vector::<u32, N>::new(0u32);
        for step in 0..(end_query - first_query).div_ceil(width) {
            let mut queries = Vector::<u32, N>::new(0u32);
            let mut exists = Vector::<u32, N>::new(0u32);
            #[unroll]
            for lane in 0..width {
                let query = first_query + step * width + lane;
                queries.insert(lane, min(query, sizes.seq_q - 1) as u32);
                exists.insert(lane, select(query < end_query, 1u32, 0u32));
            }
            for key in first_key..end_key {
                let at = Place {
                    batch: (pair / sizes.heads) as u32,
                    head: (pair % sizes.heads) as u32,
                    query: in_lanes::<u32, N>(queries),
                    key: in_lanes::<u32, N>(Vector::new(key as u32)),
                };
                let shown = visible::<N>(&at, &captured, comptime!(code.clone()));
                seen += select_many(shown, exists, Vector::new(0u32));
            }
        }
        let mut count = seen.extract(0usize);
        #[unroll]
        for lane in 1..width {
            count += seen.extract(lane);
        }
        let elements = ((end_query - first_query) * (end_key - first_key)) as u32;
        let partial = select(count == 0, EMPTY, PARTIAL);
        states[ABSOLUTE_POS] = select(count == elements, FULL, partial);
    }
}

/// The lists of one axis, one unit per list: `lists [batch * heads, own, across + 1]`.
/// `own_stride` and `across_stride` lead from tile to tile.
#[cube(launch_unchecked, address_type = "dynamic")]
pub(crate) fn list_tiles(
    states: &[u32],
    lists: &mut [u32],
    pairs: usize,
    own: usize,
    across: usize,
    own_stride: usize,
    across_stride: usize,
) {
    if ABSOLUTE_POS < pairs * own {
        let block = ABSOLUTE_POS % own;
        let origin = ABSOLUTE_POS / own * (own * across) + block * own_stride;
        let list = ABSOLUTE_POS * (across + 1);
        let mut count = 0usize;
        for index in 0..across {
            let state = states[origin + index * across_stride];
            if state != EMPTY {
                count += 1;
                lists[list + count] = 2 * index as u32 + select(state == FULL, 1u32, 0u32);
            }
        }
        lists[list] = count as u32;
    }
}
