//! `--dtype`: the type in which a model computes.

use anyhow::{Result, ensure};
use burn::module::Module;
use burn::tensor::{DType, Device, FloatDType};
use clap::ValueEnum;

use crate::models::cast;

/// The types that `--dtype` takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Precision {
    /// 32 bits
    F32,
    /// 16 bits, 5 of them exponent
    F16,
    /// 16 bits, 8 of them exponent
    Bf16,
}

impl Precision {
    /// The model in this type.
    ///
    /// # Errors
    /// A type that the device does not have.
    pub fn of<M: Module>(self, model: M, device: &Device) -> Result<M> {
        Ok(match self {
            Self::F32 => model,
            _ => cast(model, self.on(device)?),
        })
    }

    /// The type on a device.
    ///
    /// # Errors
    /// A type that the device does not have.
    pub fn on(self, device: &Device) -> Result<FloatDType> {
        let dtype = match self {
            Self::F32 => FloatDType::F32,
            Self::F16 => FloatDType::F16,
            Self::Bf16 => FloatDType::BF16,
        };
        ensure!(
            device.supports_dtype(dtype),
            "`--dtype` is {}, which {device:?} does not have; accepted: f32",
            DType::from(dtype).name()
        );
        Ok(dtype)
    }
}
