use burn::module::Module;
use burn::nn::{GroupNorm, LayerNorm, LayerNormConfig, Linear, LinearConfig};
use burn::tensor::{Device, Tensor};

use super::{
    Attention, AttentionConfig, FeedForward, GeluGated, Norm, SpatialMixer, to_image, to_tokens,
};
use crate::models::blocks::group_norm;
use crate::models::diffusion::control::Context;

/// Added to the variance before the transformer, whatever the model's other norms have.
const SPATIAL_EPSILON: f64 = 1e-6;

/// Transformer blocks over the pixels of an image, which attend to each other and to a text
/// (Rombach et al. 2022, <https://arxiv.org/abs/2112.10752>).
#[derive(Module, Debug)]
pub struct SpatialTransformer {
    /// Before everything.
    pub norm: GroupNorm,
    /// On each pixel; some files have it as a convolution of one pixel.
    pub proj_in: Linear,
    /// The blocks.
    pub transformer_blocks: Vec<TransformerBlock>,
    /// On each pixel.
    pub proj_out: Linear,
}

/// The sizes of a [`SpatialTransformer`].
#[derive(Debug, Clone, Copy)]
pub struct SpatialTransformerConfig {
    /// Number of blocks.
    pub layers: usize,
    /// Groups of the norm.
    pub groups: usize,
    /// Each block.
    pub block: TransformerBlockConfig,
}

impl SpatialTransformerConfig {
    /// A module with fresh weights.
    pub fn init(&self, device: &Device) -> SpatialTransformer {
        let width = self.block.width;
        let norm = Norm {
            groups: self.groups,
            epsilon: SPATIAL_EPSILON,
        };
        SpatialTransformer {
            norm: norm.init(width, device),
            proj_in: LinearConfig::new(width, width).init(device),
            transformer_blocks: (0..self.layers).map(|_| self.block.init(device)).collect(),
            proj_out: LinearConfig::new(width, width).init(device),
        }
    }
}

impl SpatialMixer for SpatialTransformer {
    fn mix(&self, x: Tensor<4>, context: &mut Context) -> Tensor<4> {
        let [_, _, height, width] = x.dims();
        let grid = [height, width];
        let pixels = to_tokens(group_norm(&self.norm, x.clone()));
        let pixels = self
            .transformer_blocks
            .iter()
            .fold(self.proj_in.forward(pixels), |pixels, block| {
                block.forward(pixels, grid, context)
            });
        x + to_image(self.proj_out.forward(pixels), grid)
    }
}

/// Self-attention, cross-attention and MLP, each after a norm and added to its input.
#[derive(Module, Debug)]
pub struct TransformerBlock {
    /// Before self-attention.
    pub norm1: LayerNorm,
    /// Of the pixels to each other.
    pub attn1: Attention,
    /// Before cross-attention.
    pub norm2: LayerNorm,
    /// Of the pixels to the text.
    pub attn2: Attention,
    /// Before the MLP.
    pub norm3: LayerNorm,
    /// On each pixel.
    pub ff: FeedForward<GeluGated>,
}

/// The sizes of a [`TransformerBlock`].
#[derive(Debug, Clone, Copy)]
pub struct TransformerBlockConfig {
    /// Width of a pixel.
    pub width: usize,
    /// Width of a token of the text.
    pub text: usize,
    /// A divisor of `width`.
    pub heads: usize,
}

impl TransformerBlockConfig {
    /// A block with fresh weights.
    pub fn init(&self, device: &Device) -> TransformerBlock {
        let norm = || LayerNormConfig::new(self.width).init(device);
        let attention = |context| {
            let config = AttentionConfig {
                width: self.width,
                context,
                heads: self.heads,
                bias: false,
                norm: None,
            };
            config.init(device)
        };
        TransformerBlock {
            norm1: norm(),
            attn1: attention(self.width),
            norm2: norm(),
            attn2: attention(self.text),
            norm3: norm(),
            ff: FeedForward::new(self.width, device),
        }
    }
}

impl TransformerBlock {
    /// Pixels `[batch, height * width, channels]` of a grid `[height, width]`.
    pub fn forward(&self, x: Tensor<3>, grid: [usize; 2], context: &mut Context) -> Tensor<3> {
        let pixels = self.norm1.forward(x.clone());
        let x = x + self.attn1.forward(pixels, None, grid, context);
        let pixels = self.norm2.forward(x.clone());
        let text = context.text.clone();
        let x = x + self.attn2.forward(pixels, text, grid, context);
        x.clone() + self.ff.forward(self.norm3.forward(x))
    }
}
