use burn::tensor::{
    Tensor,
    activation::{gelu_approximate, hard_swish, leaky_relu, mish, relu, relu6, sigmoid, tanh},
};
use serde::{Deserialize, Serialize};

use super::{gelu, silu};

/// A nonlinearity, by the names that Hugging Face's configurations use.
///
/// ```
/// use attention_models::models::blocks::Activation;
///
/// let activation: Activation = serde_json::from_str("\"gelu_new\"")?;
/// assert_eq!(activation, Activation::GeluTanh);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Activation {
    /// `x * Phi(x)`, exact (Hendrycks & Gimpel 2016, <https://arxiv.org/abs/1606.08415>).
    #[default]
    #[serde(alias = "gelu_python")]
    Gelu,
    /// `gelu` with `Phi` made of `tanh`.
    #[serde(
        rename = "gelu_pytorch_tanh",
        alias = "gelu_new",
        alias = "gelu_fast",
        alias = "gelu_accurate",
        alias = "gelu_python_tanh"
    )]
    GeluTanh,
    /// `x * sigmoid(1.702 x)`, as CLIP has it.
    QuickGelu,
    /// `max(x, 0)`
    Relu,
    /// `max(x, 0)^2` (So et al. 2021, Primer, <https://arxiv.org/abs/2109.08668>).
    #[serde(rename = "relu2")]
    ReluSquared,
    /// `min(max(x, 0), 6)`
    Relu6,
    /// `x` where positive, else `0.01 x`.
    LeakyRelu,
    /// `x * sigmoid(x)`, also called swish.
    #[serde(alias = "swish")]
    Silu,
    /// `x * relu6(x + 3) / 6`
    #[serde(rename = "hardswish")]
    HardSwish,
    /// `x * tanh(softplus(x))`
    Mish,
    /// `tanh(x)`
    Tanh,
    /// `1 / (1 + exp(-x))`
    Sigmoid,
    /// `x`
    Linear,
}

impl Activation {
    /// The nonlinearity of each element.
    pub fn forward<const D: usize>(self, x: Tensor<D>) -> Tensor<D> {
        match self {
            Self::Gelu => gelu(x),
            Self::GeluTanh => gelu_approximate(x),
            Self::QuickGelu => x.clone() * sigmoid(x.mul_scalar(1.702)),
            Self::Relu => relu(x),
            Self::ReluSquared => relu(x).square(),
            Self::Relu6 => relu6(x),
            Self::LeakyRelu => leaky_relu(x, 0.01),
            Self::Silu => silu(x),
            Self::HardSwish => hard_swish(x),
            Self::Mish => mish(x),
            Self::Tanh => tanh(x),
            Self::Sigmoid => sigmoid(x),
            Self::Linear => x,
        }
    }
}
