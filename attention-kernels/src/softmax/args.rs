//! What the kernels of exact attention are launched with.

use cubecl::prelude::*;

use super::exponential::Exponential;
use crate::block_map::Blocks;
use crate::tile::RowTile;
use crate::tile::packed;
pub(crate) use crate::tile::{Layout, LayoutLaunch};

/// The sizes and scalars of a problem.
#[derive(CubeType, CubeLaunch, Clone, Copy)]
#[expand(derive(Clone))]
pub(crate) struct Sizes {
    pub batch: usize,
    pub heads: usize,
    pub seq_q: usize,
    pub seq_kv: usize,
    /// Query `i` sees the keys below `i + 1 + ahead - behind`.
    pub ahead: usize,
    pub behind: usize,
    pub scale: f32,
    pub softcap: f32,
    /// Minus infinity, which WGSL cannot spell as a constant.
    pub neg_inf: f32,
    /// 0, which no compiler knows: [`Stream::again`](crate::tile::Stream::again).
    pub zero: usize,
}

/// A mask or a bias: one number for each query and key, with broadcast dimensions of stride 0.
#[derive(CubeType, CubeLaunch, Clone)]
#[expand(derive(Clone))]
pub(crate) struct ScoreTable<T: Numeric> {
    pub data: Box<[T]>,
    pub batch: usize,
    pub head: usize,
    pub query: usize,
    pub key: usize,
}

/// What is compiled into a kernel of exact attention.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Blueprint {
    pub tile: RowTile,
    pub head_dim: usize,
    pub value_dim: usize,
    /// Each unit walks row tiles of its own (a CPU core), instead of one row tile per cube.
    pub tile_per_unit: bool,
    /// Units of a cube.
    pub units: usize,
    /// A cube is a tile, which the first unit to come to it claims, or whose rows do the first units: see [`Claims`].
    pub claims_tiles: bool,
    /// How often a launch has each of its cubes.
    pub copies: usize,
    pub exponential: Exponential,
    /// Query heads per key head.
    pub group: usize,
    /// Key heads per value head.
    pub value_group: usize,
    /// The last dimension of every tensor is contiguous.
    pub packed: bool,
    pub causal: bool,
    pub softcap: bool,
    pub mask: bool,
    pub bias: bool,
    /// The mask is the same for every lane, so that one read serves all.
    pub mask_uniform: bool,
    /// The bias is the same for every lane, so that one read serves all.
    pub bias_uniform: bool,
    /// Blocks of the map that says which tokens to visit.
    pub blocks: Option<Blocks>,
}

/// How many units have come to each cube, where units are cores: the first has the tile. A slow core, or one that
/// somebody else uses too, comes first to fewer.
///
/// A software rasterizer gives each of its threads a share of the cubes beforehand. There a launch has all of them once
/// for each thread, and a unit counts how many have come to its row: a thread finds what others have done, and does what
/// is left.
#[derive(CubeType, CubeLaunch)]
pub(crate) struct Claims {
    pub arrivals: Box<[Atomic<u32>]>,
}

/// Which gradients a key walk computes. Both at once shares the recomputed weights; one at a time
/// needs fewer registers and buffers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct KeyGradients {
    pub key: bool,
    pub value: bool,
}

/// The sizes of the bias' gradient as the kernel writes it.
#[derive(CubeType, CubeLaunch, Clone, Copy)]
#[expand(derive(Clone))]
pub(crate) struct BiasGradient {
    pub batch: usize,
    pub heads: usize,
    pub slots: usize,
    pub keys: usize,
}

/// How the inputs of the backward lie.
#[derive(CubeType, CubeLaunch, Clone, Copy)]
#[expand(derive(Clone))]
pub(crate) struct Layouts {
    pub query: Layout,
    pub key: Layout,
    pub value: Layout,
    pub grad_out: Layout,
}

#[cube]
impl Layouts {
    /// With last strides of 1 known at compile time, where they are.
    pub fn packed(&self, #[comptime] blueprint: Blueprint) -> Layouts {
        Layouts {
            query: packed(&self.query, blueprint.packed),
            key: packed(&self.key, blueprint.packed),
            value: packed(&self.value, blueprint.packed),
            grad_out: packed(&self.grad_out, blueprint.packed),
        }
    }
}
