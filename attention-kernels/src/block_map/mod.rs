//! Which blocks of the score matrix a mask leaves anything of.
//!
//! # The basics
//!
//! Cut the queries into blocks, and the keys too: the score matrix falls into tiles. A mask leaves
//! each tile empty, full, or something between. Attention neither loads nor computes the empty ones,
//! and asks the mask for single elements only in those between, the partial ones. For each block of
//! queries the map lists the tiles that are not empty:
//!
//! ```text
//!               keys   0..64  64..128  128..192  192..256
//! queries   0..64      part     .         .         .       -> 0 partial
//! queries  64..128     full    part       .         .       -> 0 full, 1 partial
//! queries 128..192      .      full      part       .       -> 1 full, 2 partial
//! queries 192..256      .       .        full      part     -> 2 full, 3 partial
//! ```
//!
//! A map is made once, on the device, and serves every layer and every step with the same mask and
//! lengths, forward and backward.
//!
//! # The details
//!
//! [`BlockMap::rows`] holds one row of `kv_blocks + 1` integers for each block of queries, row-major
//! in `[batch, heads, q_blocks]`: the number of tiles that are not empty, then one entry for each of
//! them in ascending order, `2 * key block + (1 if the tile is full)`; the rest of the row is unused.
//! The map above is
//!
//! ```text
//! [ 1,  0, _, _, _ ]
//! [ 2,  1, 2, _, _ ]
//! [ 2,  3, 4, _, _ ]
//! [ 2,  5, 6, _, _ ]
//! ```
//!
//! [`BlockMap::columns`] is its transpose for the gradients of keys and values, whose kernels walk
//! over the queries: one row of `q_blocks + 1` integers for each block of keys, row-major in
//! `[batch, heads, kv_blocks]`, with entries `2 * query block + (1 if the tile is full)`.
//!
//! Where `batch` or `heads` is 1, all batch elements or heads share a list; then the mask must not
//! depend on them. Blocks have a multiple of [`BLOCK_STEP`] tokens, so that the tile of a kernel lies
//! in a single block. The last block of a sequence may be short: what lies beyond its end makes no
//! tile partial.
//!
//! FlexAttention's `BlockMask` (Dong et al. 2024, <https://arxiv.org/abs/2412.05496>) has the same
//! lists, those of full tiles apart from those of partial ones. Here they share a list, in the order
//! of the keys, so that a row is summed in the same order with a map as without.

mod classify;
mod launch;
mod shape;
mod steps;

pub use launch::block_map;
pub use shape::{BLOCK_STEP, BlockShape};
pub(crate) use steps::{BlockList, BlockListLaunch, Blocks, Step, Steps};

use crate::TensorRef;

/// The tiles that a mask leaves anything of, on a device.
#[derive(Debug, Clone)]
pub struct BlockMap {
    /// What it was made for.
    pub shape: BlockShape,
    /// `[1, 1, 1, elements]` of 32-bit integers: the lists of the query blocks.
    pub rows: TensorRef,
    /// `[1, 1, 1, elements]` of 32-bit integers: the lists of the key blocks.
    pub columns: TensorRef,
}
