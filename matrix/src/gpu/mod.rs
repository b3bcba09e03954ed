//! The devices that kernels are lowered for, as their runtimes describe them.
//!
//! What a runtime asks a driver for is written down here; the rest is what `runtime.rs` of
//! cubecl-cuda, cubecl-hip and cubecl-wgpu 0.11.3 makes of it. Sizes: NVIDIA's CUDA C++ Programming
//! Guide 13, table of compute capabilities; AMD's CDNA 2, CDNA 3, RDNA 3 and RDNA 4 instruction set
//! guides; the WebGPU specification's default limits; Apple's Metal feature set tables.

mod amd;
mod metal;
mod nvidia;
mod wgpu;

use cubecl::{
    WgpuCompilationOptions,
    features::Features,
    ir::{
        DeviceIdentity, DeviceProperties, HardwareProperties, MemoryDeviceProperties,
        TargetProperties,
    },
    profile::TimingMethod,
};
use cubecl_cpp::shared::CompilationOptions;
use cubecl_llvm::PlironOptions;

/// Which compiler lowers kernels, and how.
pub enum Compiler {
    /// CUDA C++: burn-cuda with its feature `cuda-cpp`.
    CudaCpp(CompilationOptions),
    /// HIP C++: burn-rocm with its feature `hip-cpp`.
    HipCpp(CompilationOptions),
    /// LLVM to PTX: what burn-cuda ships.
    Nvptx(PlironOptions),
    /// LLVM to AMD code objects: what burn-rocm ships.
    AmdGpu(PlironOptions),
    /// Metal shading language.
    Msl(CompilationOptions),
    /// WebGPU's shading language.
    Wgsl(WgpuCompilationOptions),
    /// SPIR-V for Vulkan.
    Spirv(WgpuCompilationOptions),
}

/// A device, and the compiler that its runtime uses.
pub struct Target {
    /// As `--target` spells it.
    pub name: &'static str,
    /// As the vendor's compiler spells the architecture.
    pub arch: String,
    /// The compiler.
    pub compiler: Compiler,
    /// What kernels may ask of the device.
    pub properties: DeviceProperties,
    /// How its matrix instructions lay out their registers.
    pub matrix: fn() -> TargetProperties,
    /// Storage buffers that its API lets a kernel bind, where that is fewer than a runtime allows
    /// kernels of its own.
    pub bindings: u32,
}

/// Every target.
pub fn all() -> Vec<Target> {
    let mut targets = nvidia::all();
    targets.extend(amd::all());
    targets.extend(wgpu::all());
    targets.push(metal::apple());
    targets
}

/// What differs between devices.
struct Hardware {
    name: &'static str,
    /// Smallest and largest number of units in lockstep.
    plane: (u32, u32),
    shared_memory: usize,
    max_vector: usize,
    multiprocessors: Option<u32>,
    /// Matrix units of a multiprocessor, and the smallest side of what they multiply.
    matrix_units: Option<u32>,
    matrix_side: Option<u32>,
    max_units: u32,
    max_bindings: u32,
}

impl Hardware {
    fn properties(self) -> DeviceProperties {
        let hardware = HardwareProperties {
            load_width: 128,
            vector_register_count: None,
            plane_size_min: self.plane.0,
            plane_size_max: self.plane.1,
            max_bindings: self.max_bindings,
            max_shared_memory_size: self.shared_memory,
            max_cube_count: (i32::MAX as u32, 65535, 65535),
            max_units_per_cube: self.max_units,
            max_cube_dim: (self.max_units, self.max_units, 64),
            num_streaming_multiprocessors: self.multiprocessors,
            num_tensor_cores: self.matrix_units,
            min_tensor_cores_dim: self.matrix_side,
            num_cpu_cores: None,
            last_level_cache_size: None,
            max_vector_size: self.max_vector,
            cube_mma_reserved_shared_memory: 0,
        };
        let identity = DeviceIdentity {
            name: self.name.into(),
            fingerprint: self.name.into(),
            physical: None,
        };
        DeviceProperties::new(
            Features::default(),
            MemoryDeviceProperties::new(1 << 36, 256),
            hardware,
            TimingMethod::System,
            identity,
        )
    }
}
