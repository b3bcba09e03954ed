use burn::module::Module;
use burn::nn::{GroupNorm, Identity, Linear, LinearConfig, activation::SiLU, conv::Conv2d};
use burn::tensor::{Device, Tensor};

use crate::models::blocks::{convolve, group_norm, silu};
use crate::models::diffusion::Context;
use crate::models::diffusion::blocks::{
    Norm, average_pool, convolution, nearest_twice, to_image, to_tokens,
};
use crate::nn::{merge_heads, split_heads};

/// What blocks of the way down and up are made of.
// Nearly all are residual blocks, the largest.
#[allow(clippy::large_enum_variant)]
#[derive(Module, Debug)]
pub enum Layer {
    /// The first.
    Convolution(Conv2d),
    /// Two convolutions, and a change of size.
    Residual(ResBlock),
    /// Of the pixels to each other.
    Attention(AttentionBlock),
}

impl Layer {
    /// With the embedding of time and label, which has passed a SiLU.
    pub(super) fn forward(
        &self,
        x: Tensor<4>,
        embedding: &Tensor<2>,
        context: &mut Context,
    ) -> Tensor<4> {
        match self {
            Self::Convolution(layer) => convolve(layer, x),
            Self::Residual(block) => block.forward(x, embedding),
            Self::Attention(block) => block.forward(x, context),
        }
    }
}

/// How a residual block changes the size of an image.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Resample {
    /// Not at all.
    #[default]
    Keep,
    /// By half, with the mean of four pixels.
    Down,
    /// By two, with every pixel four times.
    Up,
}

impl Resample {
    fn apply(self, x: Tensor<4>) -> Tensor<4> {
        match self {
            Self::Keep => x,
            Self::Down => average_pool(x),
            Self::Up => nearest_twice(x),
        }
    }
}

/// A residual block whose second norm is scaled and shifted by the embedding.
#[derive(Module, Debug)]
pub struct ResBlock {
    /// Before the embedding comes in.
    pub in_layers: (GroupNorm, SiLU, Conv2d),
    /// `embedding -> 2 outputs`
    pub emb_layers: (SiLU, Linear),
    /// After it; the third was a dropout in training.
    pub out_layers: (GroupNorm, SiLU, Identity, Conv2d),
    /// Where the number of channels changes.
    pub skip_connection: Option<Conv2d>,
    #[module(skip)]
    resample: Resample,
}

impl ResBlock {
    pub(super) fn new(
        [inputs, outputs]: [usize; 2],
        embedding: usize,
        norm: Norm,
        resample: Resample,
        device: &Device,
    ) -> Self {
        let three = |inputs| convolution([inputs, outputs], 3, device);
        let one = || convolution([inputs, outputs], 1, device);
        Self {
            in_layers: (norm.init(inputs, device), SiLU, three(inputs)),
            emb_layers: (SiLU, LinearConfig::new(embedding, 2 * outputs).init(device)),
            out_layers: (norm.init(outputs, device), SiLU, Identity, three(outputs)),
            skip_connection: (inputs != outputs).then(one),
            resample,
        }
    }

    /// With an embedding that has passed a SiLU.
    pub fn forward(&self, x: Tensor<4>, embedding: &Tensor<2>) -> Tensor<4> {
        let (norm, _, layer) = &self.in_layers;
        let hidden = silu(group_norm(norm, x.clone()));
        let hidden = convolve(layer, self.resample.apply(hidden));
        let x = self.resample.apply(x);

        let modulation = self.emb_layers.1.forward(embedding.clone());
        let [batch, both] = modulation.dims();
        let part = |from: usize| {
            let part = modulation.clone().slice_dim(1, from..from + both / 2);
            part.reshape([batch, both / 2, 1, 1])
        };
        let (scale, shift) = (part(0), part(both / 2));
        let (norm, _, _, layer) = &self.out_layers;
        let hidden = group_norm(norm, hidden) * (scale + 1.0) + shift;
        let hidden = convolve(layer, silu(hidden));
        match &self.skip_connection {
            Some(skip) => skip.forward(x) + hidden,
            None => x + hidden,
        }
    }
}

/// `x + attention(norm(x))` over the pixels.
#[derive(Module, Debug)]
pub struct AttentionBlock {
    /// Before the projections.
    pub norm: GroupNorm,
    /// Queries, keys and values in one.
    pub qkv: Linear,
    /// Of the output.
    pub proj_out: Linear,
    /// Heads.
    pub heads: usize,
}

impl AttentionBlock {
    pub(super) fn new(channels: usize, heads: usize, norm: Norm, device: &Device) -> Self {
        Self {
            norm: norm.init(channels, device),
            qkv: LinearConfig::new(channels, 3 * channels).init(device),
            proj_out: LinearConfig::new(channels, channels).init(device),
            heads,
        }
    }

    /// `[batch, channels, height, width]` to the same.
    pub fn forward(&self, x: Tensor<4>, context: &mut Context) -> Tensor<4> {
        let [_, channels, height, width] = x.dims();
        let grid = [height, width];
        let fused = self
            .qkv
            .forward(to_tokens(group_norm(&self.norm, x.clone())));
        let part = |part: usize| {
            let columns = part * channels..(part + 1) * channels;
            split_heads(fused.clone().slice_dim(2, columns), self.heads)
        };
        let attended = context.attend(false, grid, [part(0), part(1), part(2)]);
        let attended = self.proj_out.forward(merge_heads(attended));
        x + to_image(attended, grid)
    }
}
