//! A map's arguments: checked, and given to what computes it.

use attention_core::{AttentionError, AttentionProblem};
use burn::tensor::{DType, Int, Tensor};

#[cfg(feature = "cube")]
use super::super::backend;
use super::super::{
    AttentionOptions,
    check::{check, check_device, check_dtype, check_shape},
    composition,
};
use super::{Map, composed};

/// The arguments of a map.
pub struct Call {
    pub query: Tensor<4>,
    pub key: Tensor<4>,
    pub lse: Tensor<3>,
    pub options: AttentionOptions,
    /// The value and the output's gradient.
    pub gradient: Option<(Tensor<4>, Tensor<4>)>,
}

/// The values in the shape that [`Map::shape`] gives, and keys.
pub type Shown = (Tensor<4>, Option<Tensor<4, Int>>);

impl Call {
    pub fn show(self, map: Map) -> Result<Shown, AttentionError> {
        let problem = self.check(&map)?;
        let call = self.without_autodiff();
        #[cfg(feature = "cube")]
        if backend::has_kernels(&call.query.device()) {
            return Ok(backend::maps::attention_map(call, map));
        }
        composition::refuse_code(&call.options)?;
        Ok(composed::show(call, &map, &problem))
    }

    fn check(&self, map: &Map) -> Result<AttentionProblem, AttentionError> {
        let value = self.gradient.as_ref().map_or(&self.key, |(value, _)| value);
        let problem = check(&self.query, &self.key, value, &self.options)?;
        let device = self.query.device();
        check_shape("lse", &self.lse.dims(), &problem.lse_shape())?;
        check_dtype("lse", self.lse.dtype(), DType::F32)?;
        check_device("lse", &self.lse.device(), &device)?;
        if let Some((_, grad_out)) = &self.gradient {
            check_shape("grad_out", &grad_out.dims(), &problem.output_shape())?;
            check_dtype("grad_out", grad_out.dtype(), self.query.dtype())?;
            check_device("grad_out", &grad_out.device(), &device)?;
        }
        match map {
            Map::Rows(rows) | Map::GradientTimes(rows) => problem.check_rows(rows)?,
            Map::Pooled(grid) => problem.check_grid(*grid)?,
            Map::TopKeys(k) => problem.check_top_keys(*k)?,
            Map::Received | Map::Entropy => {}
        }
        Ok(problem)
    }

    fn without_autodiff(self) -> Self {
        let plain = Tensor::<4>::without_autodiff;
        Self {
            query: plain(self.query),
            key: plain(self.key),
            lse: self.lse.without_autodiff(),
            options: AttentionOptions {
                mask: self.options.mask.map(Tensor::without_autodiff),
                bias: self.options.bias.map(plain),
                ..self.options
            },
            gradient: self
                .gradient
                .map(|(value, grad_out)| (plain(value), plain(grad_out))),
        }
    }
}
