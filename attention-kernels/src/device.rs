//! What a device offers, and whether it can be trusted to count.

use std::ops::RangeInclusive;

use attention_core::DType;
use cubecl::{
    client::Client,
    features::TypeUsage,
    ir::{ElemType, FloatKind},
    prelude::*,
};

/// What a device offers to a kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceFacts {
    /// The device as its driver calls it.
    pub name: String,
    /// The runtime and its compiler.
    pub runtime: &'static str,
    /// Units that run in lockstep.
    pub plane_size: RangeInclusive<u32>,
    /// Values of `f32` in the widest load.
    pub vector_width: u32,
    /// Matrix instructions: `m x n x k`, and the types of the factors and of the sum.
    pub matrix_units: Vec<String>,
    /// Bytes that the units of a cube share.
    pub shared_memory: usize,
    /// Element types that attention takes.
    pub dtypes: Vec<DType>,
    /// Buffers that one kernel may bind.
    pub max_bindings: u32,
    /// Units in the largest cube.
    pub units_per_cube: u32,
}

/// Asks a device what it offers.
pub fn facts(client: &Client) -> DeviceFacts {
    let properties = client.properties();
    let hardware = &properties.hardware;
    let matmul = &properties.features.matmul;
    let matrix_units = matmul.cmma.union(&matmul.mma).map(|config| {
        format!(
            "{}x{}x{} {}->{}",
            config.m, config.n, config.k, config.a_type, config.cd_type
        )
    });
    DeviceFacts {
        name: properties.identity.name.clone(),
        runtime: client.name(),
        plane_size: hardware.plane_size_min..=hardware.plane_size_max,
        vector_width: hardware.load_width / 32,
        matrix_units: matrix_units.collect(),
        shared_memory: hardware.max_shared_memory_size,
        dtypes: [DType::F32, DType::F16, DType::BF16]
            .into_iter()
            .filter(|&dtype| offers(client, dtype))
            .collect(),
        max_bindings: hardware.max_bindings,
        units_per_cube: hardware.max_units_per_cube,
    }
}

/// Whether tensors of this type can be read, written and converted; all arithmetic is in `f32`.
pub fn offers(client: &Client, dtype: DType) -> bool {
    let usage = client.features().types.elem.get(&elem_type(dtype));
    usage.is_some_and(|usage| usage.is_superset(TypeUsage::Buffer | TypeUsage::Conversion))
}

/// The element type of a kernel's tensors.
pub fn elem_type(dtype: DType) -> ElemType {
    ElemType::Float(match dtype {
        DType::F32 => FloatKind::F32,
        DType::F16 => FloatKind::F16,
        DType::BF16 => FloatKind::BF16,
    })
}

/// Runs one loop of 70000 iterations and compares its result: Mesa's software Vulkan before
/// version 26 leaves loops silently after 65535, and every answer of it is worthless.
pub fn counts_loops_correctly(client: &Client) -> bool {
    const ITERATIONS: u32 = 70_000;
    let expected = (0..ITERATIONS).fold(0u32, step);
    let result = client.create_from_slice(u32::as_bytes(&[0]));
    // SAFETY: the one unit writes the one element of the buffer.
    unsafe {
        repeat_step::launch_unchecked(
            client,
            CubeCount::new_single(),
            CubeDim::new_1d(1),
            BufferArg::from_raw_parts(result.clone(), 1),
            ITERATIONS,
        );
    }
    client
        .read_one(result)
        .is_ok_and(|bytes| u32::from_bytes(&bytes) == [expected])
}

/// A step of a linear congruential generator, which no compiler sums up in closed form.
fn step(state: u32, index: u32) -> u32 {
    state
        .wrapping_add(index)
        .wrapping_mul(1_664_525)
        .wrapping_add(1_013_904_223)
}

#[cube(launch_unchecked)]
fn repeat_step(result: &mut [u32], iterations: u32) {
    let mut state = 0u32.runtime();
    for index in 0..iterations {
        state = (state + index) * 1_664_525u32 + 1_013_904_223u32;
    }
    result[0] = state;
}
