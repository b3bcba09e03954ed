//! Apple's GPUs through Metal.

use cubecl::{
    features::Plane,
    ir::{ElemType, FloatKind, PhysicalDevice, TargetProperties, features::MmaConfig},
};
use cubecl_cpp::{register_supported_types, shared::CompilationOptions};

use super::{Compiler, Hardware, Target};

pub fn apple() -> Target {
    let mut properties = Hardware {
        name: "msl",
        plane: (32, 32),
        shared_memory: 32 * 1024,
        max_vector: 4,
        multiprocessors: None,
        matrix_units: None,
        matrix_side: Some(8),
        max_units: 1024,
        max_bindings: 30,
    }
    .properties();
    properties.identity.physical = Some(PhysicalDevice::default());
    register_supported_types(&mut properties);
    let features = &mut properties.features;
    features.plane.insert(Plane::Ops);
    features.plane.insert(Plane::Sync);
    features.plane.insert(Plane::NonUniformControlFlow);
    let half = ElemType::Float(FloatKind::F16);
    let sums = [FloatKind::F16, FloatKind::F32];
    features.matmul.cmma.extend(sums.map(|sum| MmaConfig {
        a_type: half,
        b_type: half,
        cd_type: ElemType::Float(sum),
        m: 8,
        n: 8,
        k: 8,
    }));
    Target {
        name: "msl",
        arch: "msl".into(),
        compiler: Compiler::Msl(CompilationOptions::default()),
        bindings: properties.hardware.max_bindings,
        properties,
        matrix: TargetProperties::default,
    }
}
