use burn::config::Config;
use burn::module::{Initializer, Module, Param};
use burn::nn::{LayerNorm, LayerNormConfig};
use burn::tensor::{DType, Device, Tensor};
use serde::{Deserialize, Serialize};

use super::rms_norm;

/// Sizes of an [`RmsNorm`].
#[derive(Config, Debug, PartialEq)]
pub struct RmsNormConfig {
    /// Width of the last dimension.
    pub width: usize,
    /// Added to the mean of the squares.
    #[config(default = 1e-6)]
    pub epsilon: f64,
    /// Added to the learned weight: 1 for Gemma, whose files hold what the weight is more than 1.
    #[config(default = 0.0)]
    pub offset: f64,
}

impl RmsNormConfig {
    /// A norm that leaves the scale of its input at 1.
    pub fn init(&self, device: &Device) -> RmsNorm {
        let value = 1.0 - self.offset;
        RmsNorm {
            gamma: Initializer::Constant { value }.init([self.width], device),
            epsilon: self.epsilon,
            offset: self.offset,
        }
    }
}

/// `x / sqrt(mean(x^2) + epsilon) * (gamma + offset)` over the last dimension, in `f32` whatever
/// the input's type.
///
/// Zhang & Sennrich 2019, <https://arxiv.org/abs/1910.07467>
#[derive(Module, Debug)]
pub struct RmsNorm {
    /// `[width]`; called `weight` in files.
    pub gamma: Param<Tensor<1>>,
    epsilon: f64,
    offset: f64,
}

impl RmsNorm {
    /// Any shape whose last dimension is `width`, to the same.
    pub fn forward<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        let gamma = self.gamma.val();
        let gamma = if self.offset == 0.0 {
            gamma
        } else {
            gamma.cast(DType::F32).add_scalar(self.offset)
        };
        rms_norm(x, gamma, self.epsilon)
    }
}

/// Which norm a model has, without its width.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NormConfig {
    /// Mean 0 and variance 1 (Ba et al. 2016, <https://arxiv.org/abs/1607.06450>).
    Layer {
        /// Added to the variance.
        epsilon: f64,
        /// Whether something learned is added.
        bias: bool,
    },
    /// See [`RmsNorm`].
    Rms {
        /// Added to the mean of the squares.
        epsilon: f64,
        /// Added to the learned weight.
        offset: f64,
    },
}

impl NormConfig {
    /// A norm over `width`.
    pub fn init(&self, width: usize, device: &Device) -> Norm {
        match *self {
            Self::Layer { epsilon, bias } => Norm::Layer(
                LayerNormConfig::new(width)
                    .with_epsilon(epsilon)
                    .with_bias(bias)
                    .init(device),
            ),
            Self::Rms { epsilon, offset } => {
                let config = RmsNormConfig::new(width).with_epsilon(epsilon);
                Norm::Rms(config.with_offset(offset).init(device))
            }
        }
    }
}

/// Either norm.
#[derive(Module, Debug)]
#[allow(clippy::large_enum_variant)]
pub enum Norm {
    /// LayerNorm.
    Layer(LayerNorm),
    /// RMSNorm.
    Rms(RmsNorm),
}

impl Norm {
    /// Any shape whose last dimension is the norm's width, to the same.
    pub fn forward<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        match self {
            Self::Layer(norm) => norm.forward(x),
            Self::Rms(norm) => norm.forward(x),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Tolerance;

    #[test]
    fn gemmas_norm_adds_one_to_its_weight() {
        let device = Device::flex();
        let x = Tensor::<2>::from_data([[3.0, 4.0]], &device);
        let config = RmsNormConfig::new(2).with_epsilon(0.0);
        let plain = config.clone().init(&device).forward(x.clone());
        let root = 12.5f32.sqrt();
        let expected = Tensor::<2>::from_data([[3.0 / root, 4.0 / root]], &device);
        plain
            .to_data()
            .assert_approx_eq::<f32>(&expected.to_data(), Tolerance::absolute(1e-6));
        let gemma = config.with_offset(1.0).init(&device);
        assert_eq!(
            gemma.gamma.val().to_data().try_to_vec::<f32>().unwrap(),
            [0.0; 2]
        );
        assert_eq!(gemma.forward(x).to_data(), plain.to_data());
    }
}
