//! A kernel in the language that a target's compiler writes.

use cubecl::Compiler as _;
use cubecl_cpp::{
    shared::CppCompiler,
    target::{Cuda, Hip, Metal},
};
use cubecl_llvm::{LlvmTarget, PlironArtifact, PlironCompiler};
use cubecl_server::{
    compiler::CompilationError,
    kernel::{CubeKernel, define_kernel},
};
use cubecl_spirv::SpirvCompiler;
use cubecl_wgpu::WgslCompiler;

use crate::gpu::{Compiler, Target};

/// What a runtime would hand to the driver.
pub struct Lowered {
    /// Text or binary.
    pub code: Vec<u8>,
    /// How a file of it is called.
    pub extension: &'static str,
    /// Bytes that the units of a cube share.
    pub shared_memory: usize,
}

/// Lowers a kernel for a target.
///
/// # Errors
/// What the compiler says of a kernel that it refuses, and a kernel that panics while it is expanded.
pub fn lower(kernel: &dyn CubeKernel, target: &Target) -> Result<Lowered, CompilationError> {
    let definition = define_kernel(kernel)?;
    let lowered = |code: Vec<u8>, extension, shared_memory| Lowered {
        code,
        extension,
        shared_memory,
    };
    Ok(match &target.compiler {
        Compiler::CudaCpp(options) => {
            let kernel = CppCompiler::<Cuda>::default().compile(definition, options)?;
            lowered(kernel.source.into_bytes(), "cu", kernel.shared_memory_size)
        }
        Compiler::HipCpp(options) => {
            let kernel = CppCompiler::<Hip>::default().compile(definition, options)?;
            lowered(kernel.source.into_bytes(), "hip", kernel.shared_memory_size)
        }
        Compiler::Msl(options) => {
            let kernel = CppCompiler::<Metal>::default().compile(definition, options)?;
            let shared = kernel.shared_memory_size;
            lowered(kernel.to_string().into_bytes(), "metal", shared)
        }
        Compiler::Wgsl(options) => {
            let kernel = WgslCompiler.compile(definition, options)?;
            let shared = kernel.shared_memory_size;
            lowered(kernel.to_string().into_bytes(), "wgsl", shared)
        }
        Compiler::Spirv(options) => {
            let kernel = SpirvCompiler.compile(definition, options)?;
            let words = kernel.assembled_module.iter();
            let bytes = words.flat_map(|word| word.to_le_bytes()).collect();
            lowered(bytes, "spv", kernel.shared_size)
        }
        Compiler::Nvptx(options) => {
            let mut compiler = PlironCompiler {
                target: LlvmTarget::Nvptx,
            };
            let PlironArtifact::NvptxCode(module) = compiler.compile(definition, options)? else {
                unreachable!("the target decides the artifact");
            };
            let text = module.ptx.iter().map(|&byte| byte as u8);
            let text = text.take_while(|&byte| byte != 0).collect();
            lowered(text, "ptx", module.shared_memory_size)
        }
        Compiler::AmdGpu(options) => {
            let mut compiler = PlironCompiler {
                target: LlvmTarget::AmdGpu,
            };
            let PlironArtifact::AmdGpuCode(module) = compiler.compile(definition, options)? else {
                unreachable!("the target decides the artifact");
            };
            lowered(module.code_object.to_vec(), "co", module.shared_memory_size)
        }
    })
}
