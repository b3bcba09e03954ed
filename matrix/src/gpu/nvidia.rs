//! NVIDIA, as cubecl-cuda describes it.

use cubecl::{
    cmma::MatrixLayout,
    features::{Plane, Tma, TypeUsage},
    ir::{
        ContiguousElements, ElemType, FloatKind, MmaProperties, OpaqueType, TargetProperties,
        VectorSize, nvidia::SmArch,
    },
};
use cubecl_cpp::{
    cuda::{
        self,
        arch::CudaArchitecture,
        mma::{CudaCmmaCompiler, manual::contiguous_elements_cuda},
    },
    register_supported_types,
    shared::{
        Architecture, CompilationOptions, CppSupportedFeatures, register_mma_features,
        register_scaled_mma_features, register_wmma_features,
    },
};
use cubecl_llvm::{
    PlironOptions,
    nvptx::ptx_version::PtxVersion,
    shared::lowered_features::{GpuTarget, restrict_features},
};

use super::{Compiler, Hardware, Target};

/// CUDA 13's driver, as the version that it reports.
const DRIVER: i32 = 13000;

struct Card {
    version: u32,
    names: [&'static str; 2],
    shared_memory: usize,
    multiprocessors: u32,
}

pub fn all() -> Vec<Target> {
    let cards = [
        // A100
        (80, ["sm_80", "sm_80-cpp"], 163, 108),
        // H100
        (90, ["sm_90a", "sm_90a-cpp"], 227, 132),
        // B200
        (100, ["sm_100a", "sm_100a-cpp"], 227, 148),
    ];
    let cards = cards.map(|(version, names, kibibytes, multiprocessors)| Card {
        version,
        names,
        shared_memory: kibibytes * 1024,
        multiprocessors,
    });
    cards
        .iter()
        .flat_map(|card| [shipped(card), cpp(card, card.names[1])])
        .collect()
}

/// The code path that is the default: LLVM, with the features that it lowers.
fn shipped(card: &Card) -> Target {
    let mut target = cpp(card, card.names[0]);
    restrict_features(&mut target.properties, GpuTarget::Nvptx);
    target.compiler = Compiler::Nvptx(PlironOptions {
        sm_arch: Some(SmArch::new(card.version, true)),
        ptx_version: PtxVersion::for_driver(DRIVER),
        grid_constants: true,
        ..PlironOptions::default()
    });
    target
}

fn cpp(card: &Card, name: &'static str) -> Target {
    let arch = CudaArchitecture {
        version: card.version,
        tensor_cores: true,
    };
    let mut properties = Hardware {
        name,
        plane: (32, 32),
        shared_memory: card.shared_memory,
        max_vector: VectorSize::MAX,
        multiprocessors: Some(card.multiprocessors),
        matrix_units: Some(4),
        matrix_side: Some(8),
        max_units: 1024,
        max_bindings: 1024,
    }
    .properties();
    register_supported_types(&mut properties);
    let halves = [FloatKind::F16, FloatKind::BF16].map(ElemType::Float);
    let features = &mut properties.features;
    features.plane.insert(Plane::Sync);
    features.plane.insert(Plane::Ops);
    features.plane.insert(Plane::NonUniformControlFlow);
    features.matmul.ldmatrix.extend(halves);
    features.copy_async = true;
    features.memory_reinterpret = true;
    features.alignment = true;
    features.device_memory_scope = true;
    let hopper = card.version >= 90;
    if hopper {
        features.tma.insert(Tma::Base);
        features.cube_cluster = true;
        features.matmul.stmatrix.extend(halves);
        properties.register_opaque_type(OpaqueType::TensorMap);
    }
    properties.register_opaque_type(OpaqueType::Barrier);
    properties.register_type_usage(ElemType::Float(FloatKind::TF32), TypeUsage::Conversion);
    let wmma = CudaCmmaCompiler::Cpp.supported_cmma_combinations(&arch);
    register_wmma_features(wmma, &mut properties);
    register_mma_features(cuda::supported_mma_combinations(&arch), &mut properties);
    register_scaled_mma_features(
        cuda::supported_scaled_mma_combinations(&arch),
        &mut properties,
    );
    let options = CompilationOptions {
        warp_size: arch.warp_size() as usize,
        supports_features: CppSupportedFeatures {
            fast_math: true,
            dp4a: true,
            grid_constants: true,
            fast_tanh: true,
            clusters: hopper,
            elect_sync: hopper,
        },
        ..CompilationOptions::default()
    };
    Target {
        name,
        arch: format!("sm_{}{}", card.version, if hopper { "a" } else { "" }),
        compiler: Compiler::CudaCpp(options),
        bindings: properties.hardware.max_bindings,
        properties,
        matrix,
    }
}

fn matrix() -> TargetProperties {
    TargetProperties {
        mma: MmaProperties {
            register_size_bits: 32,
            const_plane_size: 32,
            register_layout_a: MatrixLayout::RowMajor,
            register_layout_b: MatrixLayout::ColMajor,
            register_layout_acc: MatrixLayout::RowMajor,
            register_duplication_a: 1,
            register_duplication_b: 1,
            register_duplication_acc: 1,
            contiguous_elements: ContiguousElements::new(contiguous_elements_cuda),
        },
    }
}
