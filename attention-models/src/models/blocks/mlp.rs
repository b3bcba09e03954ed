use burn::config::Config;
use burn::module::Module;
use burn::nn::{Linear, LinearConfig};
use burn::tensor::{Device, Tensor, activation::sigmoid};
use serde::{Deserialize, Serialize};

use super::{Activation, MixtureOfExperts, gated_silu, linear};

/// Sizes of an [`Mlp`].
#[derive(Config, Debug, PartialEq)]
pub struct MlpConfig {
    /// Width of a token.
    pub hidden_size: usize,
    /// Width between the two layers.
    pub inner_size: usize,
    /// Whether the layers have biases.
    #[config(default = true)]
    pub bias: bool,
    /// The nonlinearity.
    #[config(default = "Activation::Gelu")]
    pub activation: Activation,
}

impl MlpConfig {
    /// An MLP with random weights.
    pub fn init(&self, device: &Device) -> Mlp {
        let linear = |from, to| {
            LinearConfig::new(from, to)
                .with_bias(self.bias)
                .init(device)
        };
        Mlp {
            inner: linear(self.hidden_size, self.inner_size),
            outer: linear(self.inner_size, self.hidden_size),
            activation: self.activation,
        }
    }
}

/// `outer(activation(inner(x)))`
#[derive(Module, Debug)]
pub struct Mlp {
    /// `hidden_size -> inner_size`
    pub inner: Linear,
    /// `inner_size -> hidden_size`
    pub outer: Linear,
    #[module(skip)]
    activation: Activation,
}

impl Mlp {
    /// `[.., hidden_size]` to the same.
    pub fn forward<const D: usize>(&self, tokens: Tensor<D>) -> Tensor<D> {
        let inner = self.activation.forward(linear(&self.inner, tokens));
        linear(&self.outer, inner)
    }
}

/// How a [`GatedMlp`] joins its two inner projections.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Gate {
    /// `activation(gate) * inner`: SwiGLU with `Silu`, GeGLU with `Gelu`.
    Activation(Activation),
    /// gpt-oss: with `gate` at most `limit` and `inner` within `limit` of 0,
    /// `gate * sigmoid(alpha * gate) * (inner + 1)`.
    Clamped {
        /// The factor in the sigmoid.
        alpha: f64,
        /// The largest magnitude.
        limit: f64,
    },
}

impl Gate {
    fn join<const D: usize>(self, gate: Tensor<D>, inner: Tensor<D>) -> Tensor<D> {
        match self {
            Self::Activation(Activation::Silu) => gated_silu(gate, inner),
            Self::Activation(activation) => activation.forward(gate) * inner,
            Self::Clamped { alpha, limit } => {
                let gate = gate.clamp_max(limit);
                let inner = inner.clamp(-limit, limit);
                gate.clone() * sigmoid(gate.mul_scalar(alpha)) * inner.add_scalar(1.0)
            }
        }
    }
}

/// Sizes of a [`GatedMlp`].
#[derive(Config, Debug, PartialEq)]
pub struct GatedMlpConfig {
    /// Width of a token.
    pub hidden_size: usize,
    /// Width between the layers.
    pub inner_size: usize,
    /// Whether the layers have biases.
    #[config(default = false)]
    pub bias: bool,
    /// How the two inner projections are joined.
    #[config(default = "Gate::Activation(Activation::Silu)")]
    pub gate: Gate,
}

impl GatedMlpConfig {
    /// An MLP with random weights.
    pub fn init(&self, device: &Device) -> GatedMlp {
        let linear = |from, to| {
            LinearConfig::new(from, to)
                .with_bias(self.bias)
                .init(device)
        };
        GatedMlp {
            gate: linear(self.hidden_size, self.inner_size),
            inner: linear(self.hidden_size, self.inner_size),
            outer: linear(self.inner_size, self.hidden_size),
            join: self.gate,
        }
    }
}

/// `outer(activation(gate(x)) * inner(x))`
///
/// Shazeer 2020, GLU Variants Improve Transformer, <https://arxiv.org/abs/2002.05202>
#[derive(Module, Debug)]
pub struct GatedMlp {
    /// `hidden_size -> inner_size`
    pub gate: Linear,
    /// `hidden_size -> inner_size`
    pub inner: Linear,
    /// `inner_size -> hidden_size`
    pub outer: Linear,
    #[module(skip)]
    join: Gate,
}

impl GatedMlp {
    /// `[.., hidden_size]` to the same.
    pub fn forward<const D: usize>(&self, tokens: Tensor<D>) -> Tensor<D> {
        let gate = linear(&self.gate, tokens.clone());
        let inner = linear(&self.inner, tokens);
        linear(&self.outer, self.join.join(gate, inner))
    }
}

/// What a layer does with each token by itself.
#[derive(Module, Debug)]
#[allow(clippy::large_enum_variant)]
pub enum FeedForward {
    /// Two layers.
    Plain(Mlp),
    /// Two layers, the inner one gated.
    Gated(GatedMlp),
    /// A few gated MLPs of many.
    Experts(MixtureOfExperts),
}

impl FeedForward {
    /// `[batch, seq, hidden_size]` to the same.
    pub fn forward(&self, tokens: Tensor<3>) -> Tensor<3> {
        match self {
            Self::Plain(mlp) => mlp.forward(tokens),
            Self::Gated(mlp) => mlp.forward(tokens),
            Self::Experts(experts) => experts.forward(tokens),
        }
    }
}
