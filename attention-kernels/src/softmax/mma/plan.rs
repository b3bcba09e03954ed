//! Whether a device's matrix instructions can be used, and with which tiles.

use cubecl::{
    features::Plane,
    ir::{DeviceProperties, ElemType, FloatKind},
};

use crate::{
    softmax::{
        exponential::Exponential,
        plan::{Plan, Walk},
    },
    tile::{RowTile, Spread, row_bytes, staged_bytes},
};

/// Planes of a cube.
const PLANES: usize = 4;

/// The plan for matrix instructions, where the device has those for this element type.
pub(crate) fn matrix_plan(
    properties: &DeviceProperties,
    walk: Walk,
    [head_dim, value_dim]: [usize; 2],
    elem: ElemType,
) -> Option<Plan> {
    let spread = spread(properties, elem)?;
    let dim = head_dim.max(value_dim);
    // What a lane holds of rows, tokens and sums has to fit 255 registers. RDNA 3 holds operands twice.
    let (block, lent) = match (spread, walk) {
        (Spread::Quads, Walk::Forward) if dim <= 128 => (64, false),
        (Spread::Quads, Walk::Forward) => (32, true),
        (Spread::Quads, Walk::Backward) if dim <= 128 => (32, false),
        (_, Walk::Forward) => (32, dim > 128),
        (Spread::Quads, Walk::Backward) => (16, true),
        (_, Walk::Backward) => (16, dim > 64),
    };
    let tile = RowTile {
        groups: spread.groups_per_tile(),
        tokens: block,
        block,
        dims: dim,
        unroll: true,
        staged: false,
        lent,
        spread,
    };
    let units = PLANES * properties.hardware.plane_size_max as usize;
    let rows = match walk {
        Walk::Forward => row_bytes(head_dim, units, tile),
        Walk::Backward => row_bytes(head_dim, units, tile) + row_bytes(value_dim, units, tile),
    };
    let bytes = rows + staged_bytes(head_dim, tile) + staged_bytes(value_dim, tile);
    (bytes <= properties.hardware.max_shared_memory_size).then_some(Plan {
        tile,
        lanes: 1,
        units: units as u32,
        tile_per_unit: false,
        exponential: Exponential::Native,
        max_width: 8,
    })
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
