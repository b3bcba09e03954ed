use std::fmt::Debug;

use burn::module::Module;
use burn::nn::{Identity, Linear, LinearConfig};
use burn::tensor::{Device, Tensor, activation::gelu_approximate};

use crate::models::blocks::gelu;

/// How much wider the inner layer is.
const FACTOR: usize = 4;

/// The first half of a [`FeedForward`].
pub trait Gate: Module {
    /// From tokens of so many numbers to so many.
    fn new(inputs: usize, outputs: usize, device: &Device) -> Self;

    /// `[batch, tokens, inputs] -> [batch, tokens, outputs]`
    fn forward(&self, tokens: Tensor<3>) -> Tensor<3>;
}

/// `a * gelu(b)` of two projections `a` and `b` (Shazeer 2020, <https://arxiv.org/abs/2002.05202>).
#[derive(Module, Debug)]
pub struct GeluGated {
    /// `inputs -> 2 outputs`
    pub proj: Linear,
}

impl Gate for GeluGated {
    fn new(inputs: usize, outputs: usize, device: &Device) -> Self {
        Self {
            proj: LinearConfig::new(inputs, 2 * outputs).init(device),
        }
    }

    fn forward(&self, tokens: Tensor<3>) -> Tensor<3> {
        let both = self.proj.forward(tokens);
        let half = both.dims()[2] / 2;
        let value = both.clone().slice_dim(2, ..half);
        value * gelu(both.slice_dim(2, half..))
    }
}

/// `gelu(a)` of a projection `a`, by the tanh approximation.
#[derive(Module, Debug)]
pub struct Gelu {
    /// `inputs -> outputs`
    pub proj: Linear,
}

impl Gate for Gelu {
    fn new(inputs: usize, outputs: usize, device: &Device) -> Self {
        Self {
            proj: LinearConfig::new(inputs, outputs).init(device),
        }
    }

    fn forward(&self, tokens: Tensor<3>) -> Tensor<3> {
        gelu_approximate(self.proj.forward(tokens))
    }
}

/// The MLP of a transformer block.
#[derive(Module, Debug)]
pub struct FeedForward<G: Gate> {
    /// The gate, nothing (files count a dropout there), and the way back.
    pub net: (G, Identity, Linear),
}

impl<G: Gate> FeedForward<G> {
    /// On tokens of so many numbers.
    pub fn new(width: usize, device: &Device) -> Self {
        let inner = FACTOR * width;
        let outer = LinearConfig::new(inner, width).init(device);
        Self {
            net: (G::new(width, inner, device), Identity, outer),
        }
    }

    /// `[batch, tokens, width]` to the same.
    pub fn forward(&self, tokens: Tensor<3>) -> Tensor<3> {
        self.net.2.forward(self.net.0.forward(tokens))
    }
}
