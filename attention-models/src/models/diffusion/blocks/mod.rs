//! The blocks that diffusion models are made of. Fields are called as in diffusers' files, so that
//! a module's paths are the names in its checkpoint.

mod attention;
mod feed_forward;
mod resample;
mod resnet;
mod stages;
mod time;
mod transformer;
mod wide;

pub use attention::{Attention, AttentionConfig};
pub use feed_forward::{FeedForward, Gate, Gelu, GeluGated};
pub use resample::{Downsample, Upsample, average_pool, nearest_twice};
pub use resnet::{ResnetBlock, ResnetBlockConfig};
pub use stages::{DownBlock, MidBlock, SpatialMixer, StageConfig, UpBlock};
pub use time::{TimeProjection, TimestepEmbedding};
pub use transformer::{
    SpatialTransformer, SpatialTransformerConfig, TransformerBlock, TransformerBlockConfig,
};
pub(super) use wide::attend_wide;

use burn::nn::{
    GroupNorm, GroupNormConfig, PaddingConfig2d,
    conv::{Conv2d, Conv2dConfig},
};
use burn::tensor::{Device, Tensor};

/// Groups and epsilon of every `GroupNorm` of a model (Wu & He 2018,
/// <https://arxiv.org/abs/1803.08494>).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Norm {
    /// Groups of channels.
    pub groups: usize,
    /// Added to the variance.
    pub epsilon: f64,
}

impl Norm {
    /// The norm over so many channels.
    pub fn init(self, channels: usize, device: &Device) -> GroupNorm {
        GroupNormConfig::new(self.groups, channels)
            .with_epsilon(self.epsilon)
            .init(device)
    }
}

/// A convolution that keeps the size: a square kernel of odd side, padded with zeros.
pub fn convolution(channels: [usize; 2], side: usize, device: &Device) -> Conv2d {
    let pad = side / 2;
    Conv2dConfig::new(channels, [side, side])
        .with_padding(PaddingConfig2d::Explicit(pad, pad, pad, pad))
        .init(device)
}

/// `[batch, channels, height, width]` seen as tokens `[batch, height * width, channels]`.
pub fn to_tokens(image: Tensor<4>) -> Tensor<3> {
    let [batch, channels, height, width] = image.dims();
    image
        .reshape([batch, channels, height * width])
        .swap_dims(1, 2)
}

/// Tokens of a grid `[height, width]` as `[batch, channels, height, width]`.
pub fn to_image(tokens: Tensor<3>, [height, width]: [usize; 2]) -> Tensor<4> {
    let [batch, _, channels] = tokens.dims();
    tokens
        .swap_dims(1, 2)
        .reshape([batch, channels, height, width])
}
