//! UNets as diffusers has them: a way down of residual blocks, a middle, and a way up that reads
//! every output of the way down (Ronneberger et al. 2015, <https://arxiv.org/abs/1505.04597>).

mod conditional;
mod files;
mod unconditional;

pub use conditional::{UNet2DConditionConfig, UNet2DConditionModel};
pub use unconditional::{UNet2DConfig, UNet2DModel};

use attention_core::AttentionError;
use burn::nn::{GroupNorm, conv::Conv2d};
use burn::tensor::{Device, Tensor};

use super::Context;
use super::blocks::{DownBlock, MidBlock, Norm, SpatialMixer, StageConfig, UpBlock, convolution};
use crate::models::blocks::{group_norm, silu};

/// How much wider than the first level a time embedding is.
const TIME_FACTOR: usize = 4;

/// What lies between the first and the last convolution of a UNet.
///
/// It is made for one pass over both UNets of this module; their files have its parts beside the
/// others, so that it only borrows them.
struct Body<'a, A: SpatialMixer> {
    conv_in: &'a Conv2d,
    down_blocks: &'a [DownBlock<A>],
    mid_block: &'a MidBlock<A>,
    up_blocks: &'a [UpBlock<A>],
    conv_norm_out: &'a GroupNorm,
    conv_out: &'a Conv2d,
}

impl<A: SpatialMixer> Body<'_, A> {
    /// With the embedded time `[batch, time]`.
    fn forward(
        &self,
        sample: Tensor<4>,
        time: Tensor<2>,
        mut context: Context,
    ) -> Result<Tensor<4>, AttentionError> {
        let time = silu(time);
        let mut x = self
            .conv_in
            .forward(sample.cast(self.conv_in.weight.dtype()));
        let mut skips = vec![x.clone()];
        for block in self.down_blocks {
            x = block.forward(x, &time, &mut skips, &mut context);
        }
        x = self.mid_block.forward(x, Some(&time), &mut context);
        for block in self.up_blocks {
            x = block.forward(x, &time, &mut skips, &mut context)?;
        }
        let normalised = group_norm(self.conv_norm_out, x);
        Ok(self.conv_out.forward(silu(normalised)))
    }
}

/// The levels of a UNet.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Stages {
    /// Channels of each level, from the image's own size down.
    pub channels: Vec<usize>,
    /// Residual blocks of each level on the way down; there is one more on the way up.
    pub layers: usize,
    /// Whether a level has attention on the way down.
    pub down_attention: Vec<bool>,
    /// Whether a level has attention on the way up, from the lowest on.
    pub up_attention: Vec<bool>,
    /// Groups of every norm.
    pub norm_groups: usize,
    /// Added to the variance in every norm of a residual block.
    pub norm_epsilon: f64,
}

/// Blocks with fresh weights.
struct Built<A: SpatialMixer> {
    conv_in: Conv2d,
    down_blocks: Vec<DownBlock<A>>,
    mid_block: MidBlock<A>,
    up_blocks: Vec<UpBlock<A>>,
    conv_norm_out: GroupNorm,
    conv_out: Conv2d,
}

impl Stages {
    /// Levels of so many channels, with attention on those that say so.
    pub fn new(channels: Vec<usize>, layers: usize, attention: Vec<bool>) -> Self {
        Self {
            channels,
            layers,
            up_attention: attention.iter().rev().copied().collect(),
            down_attention: attention,
            norm_groups: 32,
            norm_epsilon: 1e-5,
        }
    }

    /// Width of the time embedding.
    fn time(&self) -> usize {
        TIME_FACTOR * self.channels[0]
    }

    fn norm(&self) -> Norm {
        Norm {
            groups: self.norm_groups,
            epsilon: self.norm_epsilon,
        }
    }

    /// All blocks; `attention` makes that of a level, and that of the middle where it is asked for
    /// the number of levels.
    fn build<A: SpatialMixer>(
        &self,
        [inputs, outputs]: [usize; 2],
        attention: impl Fn(usize) -> Option<A>,
        device: &Device,
    ) -> Built<A> {
        let stage = StageConfig {
            time: self.time(),
            norm: self.norm(),
        };
        let levels = self.channels.len();
        let several = |level, given: bool, layers| {
            let one = |_| given.then(|| attention(level)).flatten();
            (0..layers).filter_map(one).collect::<Vec<_>>()
        };
        let first = self.channels[0];
        let mut skips = vec![first];
        let mut from = first;
        let mut down_blocks = Vec::new();
        for (level, &channels) in self.channels.iter().enumerate() {
            let attentions = several(level, self.down_attention[level], self.layers);
            let last = level + 1 == levels;
            let ends = [from, channels];
            down_blocks.push(stage.down(ends, self.layers, attentions, last, device));
            skips.extend(vec![channels; self.layers + usize::from(!last)]);
            from = channels;
        }
        let mid_block = stage.middle(from, attention(levels), device);
        let mut up_blocks = Vec::new();
        for (step, &channels) in self.channels.iter().rev().enumerate() {
            let layers = self.layers + 1;
            let attentions = several(levels - 1 - step, self.up_attention[step], layers);
            let mut own = skips.split_off(skips.len() - layers);
            own.reverse();
            let last = step + 1 == levels;
            up_blocks.push(stage.up([from, channels], &own, attentions, last, device));
            from = channels;
        }
        Built {
            conv_in: convolution([inputs, first], 3, device),
            down_blocks,
            mid_block,
            up_blocks,
            conv_norm_out: self.norm().init(first, device),
            conv_out: convolution([first, outputs], 3, device),
        }
    }

    /// Refuses levels from which no model can be made.
    fn validate(&self) -> Result<(), AttentionError> {
        let levels = self.channels.len();
        let divisible = |channels: &usize| {
            *channels > 0 && self.norm_groups > 0 && channels.is_multiple_of(self.norm_groups)
        };
        if levels == 0 || !self.channels.iter().all(divisible) {
            return refuse(
                "channels",
                format!("{:?}", self.channels),
                format!("multiples of the {} norm groups", self.norm_groups),
            );
        }
        if self.layers == 0 {
            return refuse("layers", 0, "at least 1".into());
        }
        for (argument, attention) in [
            ("down_attention", &self.down_attention),
            ("up_attention", &self.up_attention),
        ] {
            if attention.len() != levels {
                let accepted = format!("one for each of {levels} levels");
                return refuse(argument, format!("{attention:?}"), accepted);
            }
        }
        Ok(())
    }

    /// Refuses an image whose channels or size do not fit, or that has not one time for each of the
    /// batch.
    fn check(
        &self,
        sample: &Tensor<4>,
        timesteps: &Tensor<1>,
        channels: usize,
    ) -> Result<(), AttentionError> {
        let [batch, given, height, width] = sample.dims();
        let side = 1 << (self.channels.len() - 1);
        let fits = |length: usize| length > 0 && length.is_multiple_of(side);
        if batch == 0 || given != channels || !fits(height) || !fits(width) {
            return Err(AttentionError::Shape {
                argument: "sample",
                given: sample.dims().to_vec(),
                accepted: format!(
                    "[batch, {channels}, height, width] with height and width multiples of {side}"
                ),
            });
        }
        if timesteps.dims() != [batch] {
            return Err(AttentionError::Shape {
                argument: "timesteps",
                given: timesteps.dims().to_vec(),
                accepted: format!("[{batch}], the batch"),
            });
        }
        Ok(())
    }
}

fn refuse<T>(
    argument: &'static str,
    given: impl ToString,
    accepted: String,
) -> Result<T, AttentionError> {
    Err(AttentionError::Value {
        argument,
        given: given.to_string(),
        accepted,
    })
}
