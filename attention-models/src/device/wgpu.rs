//! The devices that wgpu reaches: Vulkan through SPIR-V, Metal through MSL, and any graphics
//! interface through WGSL.

use std::sync::Arc;

use cubecl::{
    Device, WgpuCompilationOptions,
    client::Client,
    device::{WgpuBackend, WgpuDevice, WgpuDeviceKind},
    features::{AtomicUsage, Features, TypeUsage},
    future::block_on,
    ir::{
        AddressType, DeviceIdentity, DeviceProperties, ElemType, FloatKind, HardwareProperties,
        IntKind, MemoryDeviceProperties, Type, UIntKind,
    },
    logging::ServerLogger,
    profile::TimingMethod,
    server::ServerUtilities,
    wgpu::{AutoCompiler, WgpuServer, wgpu},
};
use cubecl_common::device::{Device as _, ServiceId};
use cubecl_server::allocator::ContiguousMemoryLayoutPolicy;

use super::cube::Found;

/// The first version of Mesa whose software Vulkan neither crashes on SPIR-V nor miscounts loops.
const SOUND_MESA: u32 = 26;
/// Far from the identities that CubeCL counts up from 0 for setups of the application.
const WGSL_ID: u32 = u16::MAX as u32;
/// Launches that are handed to the driver together; CubeCL's own default.
const TASKS_MAX: usize = 32;

/// The best Vulkan adapter.
pub(super) fn vulkan() -> Result<Found, String> {
    pinned(wgpu::Backends::VULKAN, WgpuBackend::Vulkan)
}

/// The best Metal adapter.
pub(super) fn metal() -> Result<Found, String> {
    pinned(wgpu::Backends::METAL, WgpuBackend::Metal)
}

fn pinned(backends: wgpu::Backends, api: WgpuBackend) -> Result<Found, String> {
    let (adapter, _instance) = best_adapter(backends)?;
    let info = adapter.get_info();
    let device_type = info.device_type;
    let kind = match device_type {
        wgpu::DeviceType::DiscreteGpu => WgpuDeviceKind::DiscreteGpu(0),
        wgpu::DeviceType::IntegratedGpu => WgpuDeviceKind::IntegratedGpu(0),
        wgpu::DeviceType::VirtualGpu => WgpuDeviceKind::VirtualGpu(0),
        wgpu::DeviceType::Other => WgpuDeviceKind::Other(0),
        wgpu::DeviceType::Cpu => WgpuDeviceKind::Cpu,
    };
    Ok(Found {
        device: Device::Wgpu(WgpuDevice::new(kind).on(api)),
        software: device_type == wgpu::DeviceType::Cpu,
        driver: Some(driver(&info)),
    })
}

fn driver(info: &wgpu::AdapterInfo) -> String {
    format!("{} {}", info.driver, info.driver_info)
}

/// GPUs before software, and among GPUs the strongest kind.
fn best_adapter(backends: wgpu::Backends) -> Result<(wgpu::Adapter, wgpu::Instance), String> {
    let instance = wgpu::Instance::new(wgpu::InstanceDescriptor {
        backends,
        ..wgpu::InstanceDescriptor::new_without_display_handle()
    });
    let rank = |adapter: &wgpu::Adapter| match adapter.get_info().device_type {
        wgpu::DeviceType::DiscreteGpu => 0,
        wgpu::DeviceType::IntegratedGpu => 1,
        wgpu::DeviceType::VirtualGpu => 2,
        wgpu::DeviceType::Other => 3,
        wgpu::DeviceType::Cpu => 4,
    };
    let adapters = block_on(instance.enumerate_adapters(backends));
    let best = adapters
        .into_iter()
        .min_by_key(rank)
        .ok_or("no driver offers an adapter")?;
    let info = best.get_info();
    if info.device_type == wgpu::DeviceType::Cpu
        && mesa_version(&info.driver_info).is_some_and(|version| version < SOUND_MESA)
    {
        return Err(format!(
            "its only adapter is {} by {}, whose kernels crash or leave loops early; \
             Mesa {SOUND_MESA} or newer works",
            info.name, info.driver_info
        ));
    }
    Ok((best, instance))
}

/// The major version in a driver's description, `Mesa 26.2.6 (LLVM 22.1.8)`.
fn mesa_version(driver_info: &str) -> Option<u32> {
    let version = driver_info.strip_prefix("Mesa ")?;
    version.split('.').next()?.parse().ok()
}

/// The best adapter of any interface, compiled for through WGSL.
///
/// CubeCL picks the compiler by interface: SPIR-V wherever it has Vulkan and was built with it. A
/// server of our own, on a device without the extensions that SPIR-V would need, offers what WGSL
/// can spell and nothing else.
pub(super) fn wgsl() -> Result<Found, String> {
    let (adapter, _instance) = best_adapter(wgpu::Backends::all())?;
    let info = adapter.get_info();
    let spoken = wgpu::Features::SHADER_F16 | wgpu::Features::SHADER_INT64;
    let features = adapter.features() & spoken;
    let request = wgpu::DeviceDescriptor {
        required_features: features,
        required_limits: adapter.limits(),
        memory_hints: wgpu::MemoryHints::MemoryUsage,
        ..Default::default()
    };
    let (device, queue) =
        block_on(adapter.request_device(&request)).map_err(|error| error.to_string())?;

    let selector = WgpuDevice::new(WgpuDeviceKind::Existing(WGSL_ID));
    let id = selector.to_id();
    let properties = wgsl_properties(&adapter, features);
    let memory = properties.memory.clone();
    let (utilities, captures) = ServerUtilities::init(
        ServiceId::of::<WgpuServer<AutoCompiler>>(id),
        "wgpu<wgsl>",
        properties,
        Default::default(),
        Arc::new(ServerLogger::default()),
        ContiguousMemoryLayoutPolicy::new(memory.alignment as usize),
    );
    let server = WgpuServer::<AutoCompiler>::new(
        memory,
        Default::default(),
        WgpuCompilationOptions {
            supports_u64: features.contains(wgpu::Features::SHADER_INT64),
            ..Default::default()
        },
        device,
        queue,
        TASKS_MAX,
        info.backend,
        TimingMethod::System,
        utilities,
        captures,
    );
    Client::try_init(id, server).map_err(|error| format!("{error:?}"))?;
    Ok(Found {
        device: Device::Wgpu(selector),
        software: info.device_type == wgpu::DeviceType::Cpu,
        driver: Some(driver(&info)),
    })
}

/// What plain WGSL on this adapter offers.
fn wgsl_properties(adapter: &wgpu::Adapter, features: wgpu::Features) -> DeviceProperties {
    let (limits, info) = (adapter.limits(), adapter.get_info());
    let memory = MemoryDeviceProperties::new(
        limits
            .max_storage_buffer_binding_size
            .min(limits.max_buffer_size),
        limits
            .min_uniform_buffer_offset_alignment
            .max(limits.min_storage_buffer_offset_alignment)
            .into(),
    );
    let identity = DeviceIdentity {
        fingerprint: format!("wgsl_{}_{}", info.vendor, info.device),
        name: info.name.clone(),
        physical: None,
    };
    let mut properties = DeviceProperties::new(
        Features::default(),
        memory,
        wgsl_hardware(&limits, &info),
        TimingMethod::System,
        identity,
    );
    register_types(&mut properties, features);
    properties
}

fn wgsl_hardware(limits: &wgpu::Limits, info: &wgpu::AdapterInfo) -> HardwareProperties {
    let cubes = limits.max_compute_workgroups_per_dimension;
    HardwareProperties {
        load_width: 128,
        vector_register_count: None,
        plane_size_min: info.subgroup_min_size,
        plane_size_max: info.subgroup_max_size,
        // One buffer carries the sizes and strides of the others.
        max_bindings: limits
            .max_storage_buffers_per_shader_stage
            .saturating_sub(1),
        max_shared_memory_size: limits.max_compute_workgroup_storage_size as usize,
        max_cube_count: (cubes, cubes, cubes),
        max_units_per_cube: limits.max_compute_invocations_per_workgroup,
        max_cube_dim: (
            limits.max_compute_workgroup_size_x,
            limits.max_compute_workgroup_size_y,
            limits.max_compute_workgroup_size_z,
        ),
        num_streaming_multiprocessors: None,
        num_tensor_cores: None,
        min_tensor_cores_dim: None,
        num_cpu_cores: None,
        last_level_cache_size: None,
        max_vector_size: 4,
        cube_mma_reserved_shared_memory: 0,
    }
}

fn register_types(properties: &mut DeviceProperties, features: wgpu::Features) {
    properties.register_address_type(AddressType::U32);
    let mut types = vec![
        ElemType::Index,
        ElemType::UInt(UIntKind::U32),
        ElemType::Int(IntKind::I32),
        ElemType::Float(FloatKind::F32),
        ElemType::Float(FloatKind::Flex32),
        ElemType::Bool,
    ];
    if features.contains(wgpu::Features::SHADER_F16) {
        types.push(ElemType::Float(FloatKind::F16));
    }
    if features.contains(wgpu::Features::SHADER_INT64) {
        types.push(ElemType::Int(IntKind::I64));
        types.push(ElemType::UInt(UIntKind::U64));
    }
    for elem in types {
        properties.register_type_usage(elem, TypeUsage::all());
    }
    for elem in [ElemType::Int(IntKind::I32), ElemType::UInt(UIntKind::U32)] {
        let usage = AtomicUsage::LoadStore | AtomicUsage::Exchange | AtomicUsage::Add;
        properties.register_atomic_type_usage(Type::atomic(elem), usage);
    }
}
