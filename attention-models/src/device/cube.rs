//! Finding and opening the devices of CubeCL's runtimes, each once.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Mutex, OnceLock, PoisonError},
};

use attention_kernels::device::counts_loops_correctly;
use cubecl::Device;

use super::DeviceKind;

/// A device that was opened and works.
#[derive(Debug, Clone)]
pub(super) struct Found {
    pub device: Device,
    /// A driver that computes on the processor.
    pub software: bool,
    /// Its name and version.
    pub driver: Option<String>,
}

/// The device of this kind, or why there is none. What was found stays open.
pub(super) fn open(kind: DeviceKind) -> Result<Found, String> {
    static FOUND: [OnceLock<Result<Found, String>>; DeviceKind::ALL.len()] =
        [const { OnceLock::new() }; DeviceKind::ALL.len()];
    // Vulkan's loader crashes when instances come and go on several threads at once.
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

    FOUND[kind as usize]
        .get_or_init(|| {
            let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
            catch_unwind(AssertUnwindSafe(|| find(kind).and_then(trust)))
                .unwrap_or_else(|panic| Err(message(panic.as_ref())))
        })
        .clone()
}

fn find(kind: DeviceKind) -> Result<Found, String> {
    let hardware = |found: Result<Device, cubecl::device::DeviceUnavailable>| {
        let device = found.map_err(|error| error.to_string())?;
        Ok(Found {
            device,
            software: false,
            driver: None,
        })
    };
    match kind {
        DeviceKind::Cpu | DeviceKind::CubeclCpu => hardware(Device::cpu()),
        DeviceKind::Cuda => hardware(Device::cuda(0)),
        DeviceKind::Rocm => hardware(Device::rocm(0)),
        #[cfg(feature = "wgpu")]
        DeviceKind::Vulkan => super::wgpu::vulkan(),
        #[cfg(feature = "wgpu")]
        DeviceKind::Metal => super::wgpu::metal(),
        #[cfg(feature = "wgpu")]
        DeviceKind::Wgpu => super::wgpu::wgsl(),
        #[cfg(not(feature = "wgpu"))]
        DeviceKind::Vulkan | DeviceKind::Metal | DeviceKind::Wgpu => {
            Err("this build has no wgpu".into())
        }
    }
}

/// Opens the device's client; a software driver must show that it counts.
fn trust(found: Found) -> Result<Found, String> {
    let client = found.device.client();
    if found.software && !counts_loops_correctly(&client) {
        return Err(format!(
            "the software driver {} leaves loops early, so that its results are wrong; \
             Mesa 26 or newer counts",
            client.properties().identity.name
        ));
    }
    Ok(found)
}

fn message(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied());
    text.unwrap_or("its runtime panicked").to_string()
}
