//! WebGPU and Vulkan, as cubecl-wgpu describes them.

use super::{Compiler, Hardware, Target};
use cubecl::{
    WgpuCompilationOptions,
    features::{Plane, TypeUsage},
    ir::{
        AddressType, ElemType, FloatKind, IntKind, PhysicalDevice, TargetProperties, UIntKind,
        features::MmaConfig,
    },
};

/// Storage buffers that a WebGPU device has without asking for more.
pub const WEBGPU_BUFFERS: u32 = 8;

const WORDS: [ElemType; 6] = [
    ElemType::Index,
    ElemType::UInt(UIntKind::U32),
    ElemType::Int(IntKind::I32),
    ElemType::Float(FloatKind::F32),
    ElemType::Float(FloatKind::Flex32),
    ElemType::Bool,
];

const HALF: ElemType = ElemType::Float(FloatKind::F16);

pub fn all() -> Vec<Target> {
    vec![
        wgsl("wgsl", false, false),
        wgsl("wgsl-subgroups", true, false),
        wgsl("wgsl-subgroups-f16", true, true),
        spirv("spirv", false),
        spirv("spirv-cmma", true),
    ]
}

fn wgsl(name: &'static str, subgroups: bool, f16: bool) -> Target {
    let mut properties = Hardware {
        name,
        plane: if subgroups { (32, 32) } else { (1, 128) },
        shared_memory: 16 * 1024,
        max_vector: 4,
        multiprocessors: None,
        matrix_units: None,
        matrix_side: None,
        max_units: 256,
        // The runtime keeps one for the lengths of the others.
        max_bindings: WEBGPU_BUFFERS - 1,
    }
    .properties();
    properties.register_address_type(AddressType::U32);
    let half = f16.then_some(HALF);
    for elem in WORDS.into_iter().chain(half) {
        properties.register_type_usage(elem, TypeUsage::all());
    }
    if subgroups {
        properties.features.plane.insert(Plane::Ops);
    }
    Target {
        name,
        arch: "wgsl".into(),
        compiler: Compiler::Wgsl(WgpuCompilationOptions::default()),
        properties,
        matrix: TargetProperties::default,
        bindings: WEBGPU_BUFFERS,
    }
}

fn spirv(name: &'static str, cmma: bool) -> Target {
    let mut properties = Hardware {
        name,
        plane: (32, 32),
        shared_memory: 48 * 1024,
        max_vector: 4,
        multiprocessors: None,
        matrix_units: None,
        matrix_side: cmma.then_some(16),
        max_units: 1024,
        max_bindings: 32,
    }
    .properties();
    properties.identity.physical = Some(PhysicalDevice::default());
    properties.register_address_type(AddressType::U32);
    let narrow = [
        HALF,
        ElemType::UInt(UIntKind::U8),
        ElemType::UInt(UIntKind::U16),
        ElemType::UInt(UIntKind::U64),
        ElemType::Int(IntKind::I8),
        ElemType::Int(IntKind::I16),
        ElemType::Int(IntKind::I64),
    ];
    let flex = ElemType::Float(FloatKind::Flex32);
    let words = WORDS.into_iter().filter(|&elem| elem != flex);
    for elem in words.chain(narrow) {
        properties.register_type_usage(elem, TypeUsage::all());
    }
    let features = &mut properties.features;
    features.plane.insert(Plane::Ops);
    features.plane.insert(Plane::Sync);
    features.plane.insert(Plane::NonUniformControlFlow);
    features.device_memory_scope = true;
    if cmma {
        let sums = [FloatKind::F16, FloatKind::F32];
        features.matmul.cmma.extend(sums.map(|sum| MmaConfig {
            a_type: HALF,
            b_type: HALF,
            cd_type: ElemType::Float(sum),
            m: 16,
            n: 16,
            k: 16,
        }));
    }
    let mut options = WgpuCompilationOptions {
        supports_u64: true,
        supports_vulkan_compiler: true,
        ..WgpuCompilationOptions::default()
    };
    options.vulkan.max_spirv_version = (1, 6);
    options.vulkan.max_vector_size = 4;
    options.vulkan.push_constant_size = 128;
    options.vulkan.supports_uniform_standard_layout = true;
    options.vulkan.supports_explicit_smem = true;
    Target {
        name,
        arch: "spirv".into(),
        compiler: Compiler::Spirv(options),
        bindings: properties.hardware.max_bindings,
        properties,
        matrix: TargetProperties::default,
    }
}
