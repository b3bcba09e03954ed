//! Whether a device's cooperative matrices can be used, and with which tiles.

use attention_core::AttentionProblem;
use cubecl::{
    features::Plane,
    ir::{DeviceProperties, ElemType, FloatKind, features::MmaConfig},
};

use crate::{
    softmax::{
        exponential::Exponential,
        mma::MatrixWalk,
        plan::{Plan, is_software},
    },
    tile::PlaneTile,
};

/// Rows that a cube owns at most: no more than the smallest block of a map.
const ROWS: usize = 64;

/// Planes of a cube at most.
const PLANES: usize = 4;

/// Numbers that the lanes of a row hold as fragments, each, before what they hold beside them no longer
/// fits.
const HELD: usize = 112;

/// The same, where it saves a walk.
const HELD_BY_BOTH: usize = 144;

/// A plan, and how its planes divide rows and tokens into fragments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FragmentPlan {
    pub plan: Plan,
    pub tile: PlaneTile,
}

impl FragmentPlan {
    /// Whether one key walk holds the sums of both gradients.
    pub fn holds_both(&self, problem: &AttentionProblem) -> bool {
        let held = (problem.head_dim + problem.value_dim) * 3 / 2;
        held <= HELD_BY_BOTH * self.tile.lanes
    }
}

/// The plan for cooperative matrices, where the device has those for this element type.
pub(crate) fn fragment_plan(
    properties: &DeviceProperties,
    walk: MatrixWalk,
    problem: &AttentionProblem,
    elem: ElemType,
) -> Option<FragmentPlan> {
    let hardware = &properties.hardware;
    let plane = &properties.features.plane;
    let lanes = hardware.plane_size_max as usize;
    let lockstep = hardware.plane_size_min == hardware.plane_size_max;
    if !lockstep || !plane.contains(Plane::Sync) {
        return None;
    }
    let votes = plane.contains(Plane::Ops);
    let fragment = fragment(properties, elem)?;
    let [m, n, k] = [fragment.m, fragment.n, fragment.k].map(|side| side as usize);
    let AttentionProblem {
        head_dim,
        value_dim,
        ..
    } = *problem;
    // Sums are 32 bits wide, rows 16.
    let held = match walk {
        MatrixWalk::Forward => value_dim + head_dim / 2,
        MatrixWalk::Query => head_dim + (head_dim + value_dim) / 2,
        MatrixWalk::Key => head_dim.max(value_dim) + (head_dim + value_dim) / 2,
    };
    let mut rows = lanes.min(ROWS);
    while votes && rows > m && rows * held > HELD * lanes {
        rows /= 2;
    }
    if !rows.is_multiple_of(m) {
        return None;
    }
    let software = is_software(properties);
    let largest = if software { n.max(k) } else { 32 };
    let mut tile = PlaneTile {
        m,
        n,
        k,
        planes: (ROWS / rows).min(PLANES),
        rows,
        lanes: lanes / rows,
        block: largest,
        votes,
    };
    let fits = |tile: &PlaneTile| {
        tile.bytes(head_dim, value_dim) <= hardware.max_shared_memory_size
            && tile.units() <= hardware.max_units_per_cube as usize
    };
    while !fits(&tile) && tile.planes > 1 {
        tile.planes /= 2;
    }
    while !fits(&tile) && tile.block > n.max(k).max(4 * tile.lanes) {
        tile.block /= 2;
    }
    fits(&tile).then(|| FragmentPlan {
        plan: Plan {
            tile: tile.row_tile(head_dim.max(value_dim)),
            lanes: 1,
            units: tile.units() as u32,
            tile_per_unit: false,
            exponential: if software {
                Exponential::Polynomial
            } else {
                Exponential::Native
            },
            max_width: 4,
        },
        tile,
    })
}

/// The largest of the device's fragments that divide 16 rows, tokens and dimensions, and are summed in
/// 32 bits.
fn fragment(properties: &DeviceProperties, elem: ElemType) -> Option<MmaConfig> {
    let f32 = ElemType::Float(FloatKind::F32);
    let fits = |config: &&MmaConfig| {
        (config.a_type, config.b_type, config.cd_type) == (elem, elem, f32)
            && [config.m, config.n, config.k]
                .iter()
                .all(|side| [8, 16].contains(side))
    };
    let offered = properties.features.matmul.cmma.iter().filter(fits);
    offered
        .max_by_key(|config| (config.m * config.n * config.k, config.m))
        .copied()
}
