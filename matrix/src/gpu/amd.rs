//! AMD, as cubecl-hip describes it.

use cubecl::{
    cmma::MatrixLayout,
    features::Plane,
    ir::{ContiguousElements, MmaProperties, TargetProperties, VectorSize, amd::GfxArch},
};
use cubecl_cpp::{
    hip::{
        self,
        arch::AmdWmma,
        mma::{
            HipCmmaCompiler,
            manual::{contiguous_elements_rdna3, contiguous_elements_rdna4},
        },
    },
    register_supported_types,
    shared::{
        Architecture, CompilationOptions, CppSupportedFeatures, register_mma_features,
        register_wmma_features,
    },
};
use cubecl_llvm::{
    PlironOptions,
    shared::lowered_features::{GpuTarget, restrict_features},
};

use super::{Compiler, Hardware, Target};

pub fn all() -> Vec<Target> {
    let cards = [
        // MI210, MI300X, RX 7900 XTX, RX 9070 XT
        (["gfx90a", "gfx90a-cpp"], 104),
        (["gfx942", "gfx942-cpp"], 304),
        (["gfx1100", "gfx1100-cpp"], 96),
        (["gfx1201", "gfx1201-cpp"], 64),
    ];
    let both = cards.map(|([name, cpp_name], units)| [shipped(name, units), cpp(cpp_name, units)]);
    both.into_iter().flatten().collect()
}

/// The code path that is the default: LLVM, with the features that it lowers.
fn shipped(name: &'static str, compute_units: u32) -> Target {
    let mut target = cpp(name, compute_units);
    let arch = GfxArch::parse(name);
    restrict_features(
        &mut target.properties,
        GpuTarget::AmdGpu { wmma: arch.wmma() },
    );
    target.compiler = Compiler::AmdGpu(PlironOptions {
        arch: Some(arch),
        ..PlironOptions::default()
    });
    target
}

fn cpp(name: &'static str, compute_units: u32) -> Target {
    let arch_name = name.trim_end_matches("-cpp");
    let arch = GfxArch::parse(arch_name);
    let family = arch.family();
    let plane = family.warp_size();
    let wmma = HipCmmaCompiler::RocWmma.supported_cmma_combinations(&family);
    let mut properties = Hardware {
        name,
        plane: (plane, plane),
        shared_memory: 64 * 1024,
        max_vector: VectorSize::MAX,
        multiprocessors: Some(compute_units),
        matrix_units: None,
        matrix_side: (!wmma.is_empty()).then_some(16),
        max_units: 1024,
        max_bindings: 1024,
    }
    .properties();
    register_supported_types(&mut properties);
    let features = &mut properties.features;
    features.memory_reinterpret = true;
    features.alignment = true;
    features.device_memory_scope = true;
    features.plane.insert(Plane::Ops);
    features.plane.insert(Plane::NonUniformControlFlow);
    register_wmma_features(wmma, &mut properties);
    register_mma_features(hip::supported_mma_combinations(&family), &mut properties);
    let options = CompilationOptions {
        warp_size: plane as usize,
        supports_features: CppSupportedFeatures {
            fast_math: true,
            ..CppSupportedFeatures::default()
        },
        amd_wmma: arch.wmma(),
    };
    Target {
        name,
        arch: arch_name.into(),
        compiler: Compiler::HipCpp(options),
        bindings: properties.hardware.max_bindings,
        properties,
        matrix: match arch.wmma() {
            Some(AmdWmma::Rdna4) => rdna4,
            _ => rdna3,
        },
    }
}

fn rdna3() -> TargetProperties {
    matrix(2, ContiguousElements::new(contiguous_elements_rdna3))
}

fn rdna4() -> TargetProperties {
    matrix(1, ContiguousElements::new(contiguous_elements_rdna4))
}

fn matrix(duplication: usize, contiguous_elements: ContiguousElements) -> TargetProperties {
    TargetProperties {
        mma: MmaProperties {
            register_size_bits: 32,
            const_plane_size: 32,
            register_layout_a: MatrixLayout::RowMajor,
            register_layout_b: MatrixLayout::ColMajor,
            register_layout_acc: MatrixLayout::ColMajor,
            register_duplication_a: duplication,
            register_duplication_b: duplication,
            register_duplication_acc: 1,
            contiguous_elements,
        },
    }
}
