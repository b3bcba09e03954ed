//! `--dtype`: the type in which a model computes.

use anyhow::{Result, ensure};
use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::{DType, Device, Tensor};
use clap::ValueEnum;

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
        let dtype = match self {
            Self::F32 => return Ok(model),
            Self::F16 => DType::F16,
            Self::Bf16 => DType::BF16,
        };
        ensure!(
            device.supports_dtype(dtype),
            "`--dtype` is {}, which {device:?} does not have; accepted: f32",
            dtype.name()
        );
        Ok(model.map(&mut Cast(dtype)))
    }
}

struct Cast(DType);

impl ModuleMapper for Cast {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        param.map(|tensor| tensor.cast(self.0))
    }
}
