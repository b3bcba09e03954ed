use burn::module::Module;
use burn::nn::{Linear, LinearConfig};
use burn::tensor::{
    Device, Tensor,
    activation::{gelu, gelu_approximate, relu, sigmoid, silu},
};
use serde::{Deserialize, Serialize};

/// The nonlinearity of an MLP, by the names of transformers' configurations.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Activation {
    /// `x * Phi(x)`, exact (Hendrycks & Gimpel 2016, <https://arxiv.org/abs/1606.08415>).
    #[default]
    #[serde(rename = "gelu")]
    Gelu,
    /// GELU by `tanh`, as BERT's first code has it.
    #[serde(rename = "gelu_new", alias = "gelu_pytorch_tanh", alias = "gelu_fast")]
    GeluTanh,
    /// `x * sigmoid(1.702 x)`, as CLIP has it.
    #[serde(rename = "quick_gelu")]
    QuickGelu,
    /// `max(x, 0)`
    #[serde(rename = "relu")]
    Relu,
    /// `x * sigmoid(x)`
    #[serde(rename = "silu", alias = "swish")]
    Silu,
}

impl Activation {
    /// Element by element.
    pub fn forward<const D: usize>(self, x: Tensor<D>) -> Tensor<D> {
        match self {
            Self::Gelu => gelu(x),
            Self::GeluTanh => gelu_approximate(x),
            Self::QuickGelu => x.clone() * sigmoid(x.mul_scalar(1.702)),
            Self::Relu => relu(x),
            Self::Silu => silu(x),
        }
    }
}

/// Two linear layers with a nonlinearity between them, which a third may gate (Shazeer 2020, GLU variants,
/// <https://arxiv.org/abs/2002.05202>): `outer(activation(inner(x)) * gate(x))`.
#[derive(Module, Debug)]
pub struct Mlp {
    /// `hidden_size -> mlp_size`
    pub inner: Linear,
    /// `hidden_size -> mlp_size`
    pub gate: Option<Linear>,
    /// `mlp_size -> hidden_size`
    pub outer: Linear,
    #[module(skip)]
    activation: Activation,
}

impl Mlp {
    /// An MLP of `sizes` `[hidden_size, mlp_size]`.
    pub fn new(
        [width, mlp_size]: [usize; 2],
        activation: Activation,
        gated: bool,
        bias: bool,
        device: &Device,
    ) -> Self {
        let linear = |from, to| LinearConfig::new(from, to).with_bias(bias).init(device);
        Self {
            inner: linear(width, mlp_size),
            gate: gated.then(|| linear(width, mlp_size)),
            outer: linear(mlp_size, width),
            activation,
        }
    }

    /// `[batch, seq, hidden_size]` to the same.
    pub fn forward(&self, tokens: Tensor<3>) -> Tensor<3> {
        let inner = self.activation.forward(self.inner.forward(tokens.clone()));
        let inner = match &self.gate {
            Some(gate) => inner * gate.forward(tokens),
            None => inner,
        };
        self.outer.forward(inner)
    }
}
