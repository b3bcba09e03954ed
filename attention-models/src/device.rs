//! The one list of devices: which are compiled in, which this machine has, and how to open them.

#[cfg(feature = "cube")]
mod cube;
#[cfg(feature = "wgpu")]
mod wgpu;

use std::{fmt, str::FromStr};

use burn::tensor::Device;

#[cfg(feature = "cube")]
pub use attention_kernels::device::DeviceFacts;

/// A kind of device that Burn tensors live on and attention runs on.
///
/// ```
/// use attention_models::device::DeviceKind;
///
/// let kind: DeviceKind = "cpu".parse()?;
/// assert!(kind.compiled_in());
/// let _device = kind.open()?;
/// # Ok::<(), attention_models::device::DeviceError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DeviceKind {
    /// The processor: tensors of Burn's `flex` backend, and with feature `cpu` our kernels on copies of
    /// them.
    Cpu,
    /// The processor as CubeCL's CPU runtime has it, Burn's `Device::cpu()`: tensors lie where kernels compute,
    /// and Burn's other operations are CubeCL's kernels too.
    CubeclCpu,
    /// Vulkan, through SPIR-V.
    Vulkan,
    /// WebGPU as browsers have it: WGSL, on whichever graphics interface the machine offers.
    Wgpu,
    /// CUDA.
    Cuda,
    /// ROCm.
    Rocm,
    /// Metal.
    Metal,
}

/// Why a device cannot be had, and what is there instead.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DeviceError {
    /// No device has this name.
    #[error("`device` is {given}; accepted: auto, {}", names(&DeviceKind::ALL))]
    Unknown {
        /// The name that was given.
        given: String,
    },
    /// This build left the device out.
    #[error("`device` is {device}, which is not compiled in (feature `{}`); there is: {}", .device.feature(), names(.there))]
    NotCompiledIn {
        /// The device that was asked for.
        device: DeviceKind,
        /// The devices that can be opened.
        there: Vec<DeviceKind>,
    },
    /// The machine has no such device, or it does not work.
    #[error("`device` is {device}, which is not there: {reason}; there is: {}", names(.there))]
    NotFound {
        /// The device that was asked for.
        device: DeviceKind,
        /// What the runtime or the driver says.
        reason: String,
        /// The devices that can be opened.
        there: Vec<DeviceKind>,
    },
}

impl DeviceError {
    /// Why the device cannot be had, without what is there instead.
    pub fn reason(&self) -> String {
        match self {
            Self::Unknown { given } => format!("no device is called {given}"),
            Self::NotCompiledIn { device, .. } => {
                format!("not compiled in (feature `{}`)", device.feature())
            }
            Self::NotFound { reason, .. } => reason.clone(),
        }
    }
}

impl DeviceKind {
    /// Every kind there is, whether or not this build and this machine have it.
    pub const ALL: [Self; 7] = [
        Self::Cpu,
        Self::CubeclCpu,
        Self::Vulkan,
        Self::Wgpu,
        Self::Cuda,
        Self::Rocm,
        Self::Metal,
    ];

    /// The name in `--device`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::CubeclCpu => "cubecl-cpu",
            Self::Vulkan => "vulkan",
            Self::Wgpu => "wgpu",
            Self::Cuda => "cuda",
            Self::Rocm => "rocm",
            Self::Metal => "metal",
        }
    }

    /// The feature that compiles it in.
    pub const fn feature(self) -> &'static str {
        match self {
            Self::CubeclCpu => "cpu",
            _ => self.name(),
        }
    }

    /// Whether this build can use the device. `cpu` always is: without its feature, attention is
    /// composed of Burn's operations.
    pub const fn compiled_in(self) -> bool {
        match self {
            Self::Cpu => true,
            Self::CubeclCpu => cfg!(feature = "cpu"),
            Self::Vulkan => cfg!(feature = "vulkan"),
            Self::Wgpu => cfg!(feature = "wgpu"),
            Self::Cuda => cfg!(feature = "cuda"),
            Self::Rocm => cfg!(feature = "rocm"),
            Self::Metal => cfg!(feature = "metal"),
        }
    }

    /// Whether the device can be opened. The first call opens it, which takes up to a second.
    pub fn found(self) -> bool {
        self.refusal().is_none()
    }

    /// The kinds that can be opened.
    pub fn all_found() -> Vec<Self> {
        Self::ALL.into_iter().filter(|kind| kind.found()).collect()
    }

    /// The device, ready for tensors.
    ///
    /// # Errors
    /// [`DeviceError::NotCompiledIn`] and [`DeviceError::NotFound`]; software Vulkan that cannot
    /// count its loops is refused.
    pub fn open(self) -> Result<Device, DeviceError> {
        self.check()?;
        match self {
            Self::Cpu => Ok(Device::flex()),
            #[cfg(feature = "cube")]
            _ => cube::open(self)
                .map(|found| Device::new(found.device))
                .map_err(|reason| self.not_found(reason)),
            #[cfg(not(feature = "cube"))]
            _ => Err(self.not_compiled_in()),
        }
    }

    /// The CubeCL client that kernels of the device run on.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    #[cfg(feature = "cube")]
    pub fn client(self) -> Result<cubecl::client::Client, DeviceError> {
        self.check()?;
        cube::open(self)
            .map(|found| found.device.client())
            .map_err(|reason| self.not_found(reason))
    }

    /// What the device offers.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    #[cfg(feature = "cube")]
    pub fn facts(self) -> Result<DeviceFacts, DeviceError> {
        self.client()
            .map(|client| attention_kernels::device::facts(&client))
    }

    /// The driver with its version, of a device that is reached through one.
    pub fn driver(self) -> Option<String> {
        match self {
            Self::Cpu => None,
            #[cfg(feature = "cube")]
            _ => cube::open(self).ok()?.driver,
            #[cfg(not(feature = "cube"))]
            _ => None,
        }
    }

    /// Whether the device is a driver that computes on the processor.
    pub fn is_software(self) -> bool {
        match self {
            Self::Cpu | Self::CubeclCpu => true,
            #[cfg(feature = "cube")]
            _ => cube::open(self).is_ok_and(|found| found.software),
            #[cfg(not(feature = "cube"))]
            _ => false,
        }
    }

    fn check(self) -> Result<(), DeviceError> {
        if !self.compiled_in() {
            return Err(self.not_compiled_in());
        }
        match self.refusal() {
            Some(reason) => Err(self.not_found(reason)),
            None => Ok(()),
        }
    }

    fn refusal(self) -> Option<String> {
        if !self.compiled_in() {
            return Some(format!("this build has no feature `{}`", self.feature()));
        }
        match self {
            Self::Cpu => None,
            #[cfg(feature = "cube")]
            _ => cube::open(self).err(),
            #[cfg(not(feature = "cube"))]
            _ => None,
        }
    }

    fn not_compiled_in(self) -> DeviceError {
        DeviceError::NotCompiledIn {
            device: self,
            there: Self::all_found(),
        }
    }

    fn not_found(self, reason: String) -> DeviceError {
        DeviceError::NotFound {
            device: self,
            reason,
            there: Self::all_found(),
        }
    }
}

/// The best device found: a GPU, or else the processor. A software driver never wins over `cpu`.
pub fn auto() -> DeviceKind {
    use DeviceKind::{Cpu, Cuda, Metal, Rocm, Vulkan, Wgpu};
    [Cuda, Rocm, Metal, Vulkan, Wgpu]
        .into_iter()
        .find(|kind| kind.found() && !kind.is_software())
        .unwrap_or(Cpu)
}

/// The kind that `name` means: one of [`DeviceKind::ALL`], or `auto` for the best one found.
///
/// # Errors
/// [`DeviceError::Unknown`]
pub fn by_name(name: &str) -> Result<DeviceKind, DeviceError> {
    if name == "auto" {
        return Ok(auto());
    }
    name.parse()
}

impl FromStr for DeviceKind {
    type Err = DeviceError;

    fn from_str(name: &str) -> Result<Self, DeviceError> {
        Self::ALL
            .into_iter()
            .find(|kind| kind.name() == name)
            .ok_or_else(|| DeviceError::Unknown { given: name.into() })
    }
}

impl fmt::Display for DeviceKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

fn names(kinds: &[DeviceKind]) -> String {
    let names: Vec<_> = kinds.iter().map(|kind| kind.name()).collect();
    names.join(", ")
}
