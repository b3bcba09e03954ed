use burn::module::Module;
use burn::nn::{GroupNorm, Linear, LinearConfig};
use burn::tensor::{Device, Tensor};

use super::{Norm, SpatialMixer, to_image, to_tokens};
use crate::models::blocks::group_norm;
use crate::models::diffusion::control::Context;
use crate::nn::{merge_heads, split_heads};

/// Multi-head attention of pixels to each other, or to the tokens of a text.
#[derive(Module, Debug)]
pub struct Attention {
    /// Before the projections, where the attention is a block of its own.
    pub group_norm: Option<GroupNorm>,
    /// `width -> width`
    pub to_q: Linear,
    /// `width` or the text's width `-> width`
    pub to_k: Linear,
    /// `width` or the text's width `-> width`
    pub to_v: Linear,
    /// `width -> width`; files have it in a list of one.
    pub to_out: [Linear; 1],
    /// Heads.
    pub heads: usize,
}

/// The sizes of an [`Attention`].
#[derive(Debug, Clone, Copy)]
pub struct AttentionConfig {
    /// Width of queries and output.
    pub width: usize,
    /// Width of what keys and values are made from.
    pub context: usize,
    /// A divisor of `width`.
    pub heads: usize,
    /// Whether queries, keys and values have a bias.
    pub bias: bool,
    /// Over the pixels, where the attention is a block of its own.
    pub norm: Option<Norm>,
}

impl AttentionConfig {
    /// A module with fresh weights.
    pub fn init(&self, device: &Device) -> Attention {
        let linear = |inputs, bias| {
            LinearConfig::new(inputs, self.width)
                .with_bias(bias)
                .init(device)
        };
        Attention {
            group_norm: self.norm.map(|norm| norm.init(self.width, device)),
            to_q: linear(self.width, self.bias),
            to_k: linear(self.context, self.bias),
            to_v: linear(self.context, self.bias),
            to_out: [linear(self.width, true)],
            heads: self.heads,
        }
    }
}

impl Attention {
    /// Of pixels `[batch, height * width, channels]` of a grid `[height, width]` to `text`
    /// `[batch, tokens, width]`, or to each other.
    pub fn forward(
        &self,
        pixels: Tensor<3>,
        text: Option<Tensor<3>>,
        grid: [usize; 2],
        context: &mut Context,
    ) -> Tensor<3> {
        let cross = text.is_some();
        let source = text.unwrap_or_else(|| pixels.clone());
        let heads = |tokens| split_heads(tokens, self.heads);
        let inputs = [
            heads(self.to_q.forward(pixels)),
            heads(self.to_k.forward(source.clone())),
            heads(self.to_v.forward(source)),
        ];
        let attended = context.attend(cross, grid, inputs);
        self.to_out[0].forward(merge_heads(attended))
    }
}

/// `x + attention(norm(x))`
impl SpatialMixer for Attention {
    fn mix(&self, x: Tensor<4>, context: &mut Context) -> Tensor<4> {
        let [_, _, height, width] = x.dims();
        let grid = [height, width];
        let normalised = match &self.group_norm {
            Some(norm) => group_norm(norm, x.clone()),
            None => x.clone(),
        };
        let attended = self.forward(to_tokens(normalised), None, grid, context);
        x + to_image(attended, grid)
    }
}
