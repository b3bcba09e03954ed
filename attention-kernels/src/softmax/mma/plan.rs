//! Whether a device's matrix instructions can be used, and with which tiles.

use attention_core::AttentionProblem;
use cubecl::{
    features::Plane,
    ir::{DeviceProperties, ElemType, FloatKind},
};

use super::token_stats::stats_bytes;
use crate::{
    softmax::{bind::F32, exponential::Exponential, plan::Plan},
    tile::{F32_TERMS, RowTile, Spread, row_bytes, staged_bytes},
};

/// Planes of a cube, where rows in shared memory leave room for as many.
const PLANES: usize = 4;

/// Rows of a tile.
pub(crate) const ROWS: usize = 16;

/// Which walk a plan is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MatrixWalk {
    Forward,
    Query,
    Key,
}

/// How a walk divides its work.
#[derive(Clone, Copy)]
struct Tiling {
    /// Tiles of 16 rows that a plane owns: what it loads of the tokens serves all of them.
    row_tiles: usize,
    /// Tokens of a step.
    block: usize,
    /// Rows lie in shared memory.
    lent: bool,
    planes: usize,
    /// Terms of an element.
    terms: usize,
}

impl Tiling {
    /// What lanes hold of rows, tokens and sums fits their 255 registers, by the compile matrix; of what fits,
    /// the fastest of an H100. The blocks of a map are multiples of 64.
    fn new(spread: Spread, walk: MatrixWalk, dim: usize) -> Self {
        use MatrixWalk::{Forward, Key, Query};
        let (block, lent) = match (spread, walk) {
            (Spread::Quads, Forward) if dim <= 64 => (64, false),
            (Spread::Quads, Forward) if dim <= 128 => (64, true),
            (Spread::Quads, Forward) => (32, true),
            (Spread::Quads, Query | Key) if dim <= 128 => (32, false),
            (Spread::Quads, Query | Key) => (16, true),
            // RDNA 3 holds every operand twice.
            (_, Forward) => (32, dim > 128),
            (_, Query | Key) => (16, dim > 64),
        };
        Self {
            row_tiles: 1,
            block,
            lent,
            planes: PLANES,
            terms: 1,
        }
    }

    /// Of elements of f32: three times what a 16-bit element takes, and half of the reading for each product.
    fn of_f32(walk: MatrixWalk, dim: usize) -> Self {
        use MatrixWalk::{Forward, Key, Query};
        let (block, lent, planes) = match walk {
            Forward if dim <= 64 => (64, false, PLANES),
            Forward if dim <= 128 => (32, false, PLANES),
            Query if dim <= 64 => (32, false, PLANES),
            Key if dim <= 64 => (16, false, PLANES),
            Forward => (16, true, PLANES / 2),
            Query | Key => (16, true, PLANES / 2),
        };
        Self {
            row_tiles: 1,
            block,
            lent,
            planes,
            terms: F32_TERMS,
        }
    }

    /// Without planes that so few rows would leave idle.
    fn for_rows(mut self, rows: usize) -> Self {
        let tiles = rows.div_ceil(self.row_tiles * ROWS);
        self.planes = self.planes.min(tiles.next_power_of_two());
        self
    }

    /// For more rows than the device runs at once: what is read of a token serves twice as many.
    fn crowded(spread: Spread, walk: MatrixWalk, dim: usize) -> Option<Self> {
        use MatrixWalk::{Forward, Key, Query};
        let (block, lent) = match (spread, walk) {
            (Spread::Quads, Forward) if dim <= 64 => (64, false),
            (Spread::Quads, Forward) if dim <= 128 => (48, true),
            (Spread::Quads, Query) if dim <= 64 => (16, false),
            (Spread::Quads, Key) if dim <= 128 => (32, true),
            _ => return None,
        };
        Some(Self {
            row_tiles: 2,
            block,
            lent,
            planes: PLANES,
            terms: 1,
        })
    }
}

/// Lanes hold the sums of both gradients of rows of up to this many dimensions together.
const DIMS_OF_BOTH: usize = 128;

/// The plan for matrix instructions, where the device has those for this element type. `mapped` cubes
/// own no more rows than the smallest block of a map.
pub(crate) fn matrix_plan(
    properties: &DeviceProperties,
    walk: MatrixWalk,
    problem: &AttentionProblem,
    elem: ElemType,
    mapped: bool,
) -> Option<Plan> {
    if elem == F32 {
        return f32_plan(properties, walk, problem);
    }
    let spread = spread(properties, elem)?;
    let hardware = &properties.hardware;
    let (heads, tokens) = match walk {
        MatrixWalk::Forward | MatrixWalk::Query => (problem.heads, problem.seq_q),
        MatrixWalk::Key => (problem.kv_heads, problem.seq_kv),
    };
    let cubes = problem.batch * heads * tokens.div_ceil(2 * PLANES * ROWS);
    let multiprocessors = hardware.num_streaming_multiprocessors.unwrap_or(0) as usize;
    let dim = problem.head_dim.max(problem.value_dim);
    let most = hardware.max_shared_memory_size;
    let crowded = Tiling::crowded(spread, walk, dim)
        .filter(|_| !mapped && cubes >= multiprocessors && tokens > PLANES * ROWS)
        .map(|tiling| plan(spread, walk, problem, tiling, hardware.plane_size_max))
        // One cube computes while another waits.
        .filter(|(_, bytes)| 2 * bytes <= most);
    let (plan, bytes) = crowded.unwrap_or_else(|| {
        let mut tiling = Tiling::new(spread, walk, dim);
        if walk == MatrixWalk::Forward {
            tiling = tiling.for_rows(tokens);
        }
        plan(spread, walk, problem, tiling, hardware.plane_size_max)
    });
    (bytes <= most).then_some(plan)
}

/// The plan for f32, where six products of bf16 take less time than one of f32: RDNA multiplies f32 a quarter as
/// fast as bf16, and NVIDIA's data centre cards a sixteenth.
fn f32_plan(
    properties: &DeviceProperties,
    walk: MatrixWalk,
    problem: &AttentionProblem,
) -> Option<Plan> {
    let spread = spread(properties, ElemType::Float(FloatKind::BF16))?;
    let hardware = &properties.hardware;
    let dim = problem.head_dim.max(problem.value_dim);
    let tiling = Tiling::of_f32(walk, dim);
    let (plan, bytes) = plan(spread, walk, problem, tiling, hardware.plane_size_max);
    let fits = bytes <= hardware.max_shared_memory_size;
    (spread == Spread::Quads && fits).then_some(plan)
}

/// The plan of a tiling, and the bytes of shared memory that it takes.
fn plan(
    spread: Spread,
    walk: MatrixWalk,
    problem: &AttentionProblem,
    tiling: Tiling,
    plane_size: u32,
) -> (Plan, usize) {
    let AttentionProblem {
        head_dim,
        value_dim,
        ..
    } = *problem;
    let tile = RowTile {
        groups: tiling.row_tiles * spread.groups_per_tile(),
        tokens: tiling.block,
        block: tiling.block,
        dims: head_dim.max(value_dim),
        unroll: true,
        staged: false,
        unpacks: false,
        widened: false,
        lent: tiling.lent,
        spread,
        terms: tiling.terms,
    };
    let units = tiling.planes * plane_size as usize;
    let [head_dim, value_dim] = [head_dim, value_dim].map(|dim| tile.held(dim));
    let rows = match walk {
        MatrixWalk::Forward => row_bytes(head_dim, units, tile),
        MatrixWalk::Query | MatrixWalk::Key => {
            row_bytes(head_dim, units, tile) + row_bytes(value_dim, units, tile)
        }
    };
    let stats = if walk == MatrixWalk::Key {
        stats_bytes(tile)
    } else {
        0
    };
    let held = if walk == MatrixWalk::Forward { 1 } else { 2 };
    let staged = [head_dim, value_dim].map(|dim| staged_bytes(dim, tile, held));
    let walked = rows + stats + staged.iter().sum::<usize>();
    // `delta` holds the rows of two tensors of values.
    let bytes = walked.max(2 * row_bytes(value_dim, units, tile));
    let plan = Plan {
        tile,
        lanes: 1,
        units: units as u32,
        tile_per_unit: false,
        claims_tiles: false,
        threads: 1,
        most_groups: 1,
        both: problem.head_dim + problem.value_dim <= DIMS_OF_BOTH,
        exponential: Exponential::Native,
        max_width: 8,
    };
    (plan, bytes)
}

/// How the device's instruction for this type spreads rows over lanes.
fn spread(properties: &DeviceProperties, elem: ElemType) -> Option<Spread> {
    let features = &properties.features;
    let hardware = &properties.hardware;
    let f32 = ElemType::Float(FloatKind::F32);
    let offers = |m, n, k| {
        features.matmul.mma.iter().any(|config| {
            (config.a_type, config.b_type, config.cd_type) == (elem, elem, f32)
                && (config.m, config.n, config.k) == (m, n, k)
        })
    };
    let lockstep = hardware.plane_size_min == 32 && hardware.plane_size_max == 32;
    if !lockstep || !features.plane.contains(Plane::Ops) {
        return None;
    }
    if offers(16, 8, 16) && features.matmul.ldmatrix.contains(&elem) {
        return Some(Spread::Quads);
    }
    offers(16, 16, 16).then_some(Spread::Alternating)
}
