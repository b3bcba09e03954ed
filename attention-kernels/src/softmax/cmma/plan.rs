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

/// The plan for cooperative matrices, where the device has those for this element type.
pub(crate) fn fragment_plan(
    properties: &DeviceProperties,
    walk: MatrixWalk,
    problem: &AttentionProblem,
    elem: ElemType,
) -> Option<FragmentPlan> {
    let AttentionProblem {
        head_dim,
        value_dim,
        ..
    } = *problem;
    let dims = [head_dim, value_dim];
    let longest = head_dim.max(value_dim);
    let tile =
        |rows: &[usize], sums: &[usize], held| plane_tile(properties, elem, dims, rows, sums, held);
    let both = match walk {
        MatrixWalk::Key => tile(&dims, &dims, HELD_BY_BOTH),
        MatrixWalk::Forward | MatrixWalk::Query => None,
    };
    let one = || match walk {
        MatrixWalk::Forward => tile(&[head_dim], &[value_dim], HELD),
        MatrixWalk::Query => tile(&dims, &[head_dim], HELD),
        MatrixWalk::Key => tile(&dims, &[longest, 0], HELD),
    };
    let tile = both.or_else(one)?;
    Some(FragmentPlan {
        plan: Plan {
            tile: tile.row_tile(longest),
            lanes: 1,
            units: tile.units() as u32,
            tile_per_unit: false,
            claims_tiles: false,
            threads: 1,
            most_groups: 1,
            both: both.is_some(),
            exponential: if is_software(properties) {
                Exponential::Polynomial
            } else {
                Exponential::Native
            },
            max_width: 4,
        },
        tile,
    })
}

/// How planes divide the work of a walk over `tokens` with rows and sums of these dimensions, of which the
/// lanes of a row hold at most `held` numbers each.
fn plane_tile(
    properties: &DeviceProperties,
    elem: ElemType,
    tokens: [usize; 2],
    rows: &[usize],
    sums: &[usize],
    held: usize,
) -> Option<PlaneTile> {
    let hardware = &properties.hardware;
    let plane = &properties.features.plane;
    let lanes = hardware.plane_size_max as usize;
    let lockstep = hardware.plane_size_min == hardware.plane_size_max;
    if !lockstep || !plane.contains(Plane::Sync) {
        return None;
    }
    let fragment = fragment(properties, elem)?;
    let [m, n, k] = [fragment.m, fragment.n, fragment.k].map(|side| side as usize);
    let votes = plane.contains(Plane::Ops);
    let lent = is_software(properties);
    // Sums are 32 bits wide, rows 16.
    let numbers = sums.iter().sum::<usize>() + rows.iter().sum::<usize>() / 2;
    let mut own = lanes.min(ROWS);
    while votes && own > m && own * numbers > held * lanes {
        own /= 2;
    }
    // One walk for both gradients has to fit; else the fewest rows are taken that a fragment has.
    let both = sums.iter().all(|dim| *dim > 0) && sums.len() > 1;
    let overfull = both && !lent && own * numbers > held * lanes;
    if !own.is_multiple_of(m) || overfull {
        return None;
    }
    let mut tile = PlaneTile {
        m,
        n,
        k,
        planes: (ROWS / own).min(PLANES),
        rows: own,
        lanes: lanes / own,
        block: if lent { n.max(k) } else { 32 },
        votes,
        lent,
    };
    let fits = |tile: &PlaneTile| {
        tile.bytes(tokens, rows, sums) <= hardware.max_shared_memory_size
            && tile.units() <= hardware.max_units_per_cube as usize
    };
    while !fits(&tile) && tile.planes > 1 {
        tile.planes /= 2;
    }
    while !fits(&tile) && tile.block > n.max(k).max(4 * tile.lanes) {
        tile.block /= 2;
    }
    fits(&tile).then_some(tile)
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
