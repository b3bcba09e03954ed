use std::path::Path;

use attention_core::{AttentionError, MAX_HEAD_DIM};
use burn::config::Config;
use burn::module::Module;
use burn::nn::{GroupNorm, conv::Conv2d};
use burn::tensor::{Device, Tensor};

use super::{Body, Stages, files, refuse};
use crate::models::checkpoint::{CheckpointError, find};
use crate::models::diffusion::blocks::{
    DownBlock, MidBlock, SpatialTransformer, SpatialTransformerConfig, TimeProjection,
    TimestepEmbedding, TransformerBlockConfig, UpBlock,
};
use crate::models::diffusion::{AttentionControl, Context, Plain, folder::save};
use crate::ops::accept;

/// The sizes and variants of a [`UNet2DConditionModel`].
///
/// ```
/// use attention_models::models::diffusion::{Stages, UNet2DConditionConfig};
/// use burn::tensor::{Device, Tensor};
///
/// let device = Device::flex();
/// let stages = Stages::new(vec![32, 64], 1, vec![false, true]);
/// let unet = UNet2DConditionConfig::new(4, 4, stages, 48).init(&device);
/// let noisy = Tensor::zeros([1, 4, 16, 8], &device);
/// let text = Tensor::zeros([1, 77, 48], &device);
/// let noise = unet.forward(noisy, Tensor::from_data([10.0], &device), text);
/// assert_eq!(noise.dims(), [1, 4, 16, 8]);
/// ```
#[derive(Config, Debug, PartialEq)]
pub struct UNet2DConditionConfig {
    /// Channels of the latents.
    pub inputs: usize,
    /// Channels of the prediction.
    pub outputs: usize,
    /// The levels.
    pub stages: Stages,
    /// Width of a token of the text.
    pub text_width: usize,
    /// Heads on each level; a single number is that of all levels.
    #[config(default = "vec![8]")]
    pub heads: Vec<usize>,
    /// Transformer blocks on each level; a single number is that of all levels.
    #[config(default = "vec![1]")]
    pub transformer_layers: Vec<usize>,
    /// Side of the latents that the model was made for.
    #[config(default = 64)]
    pub sample_size: usize,
    /// How times are given to the model.
    #[config(default = "TimeProjection { cosine_first: true, frequency_shift: 0.0 }")]
    pub time: TimeProjection,
}

/// diffusers' `UNet2DConditionModel`: predicts the noise in latents from them, the time and a text
/// (Rombach et al. 2022, <https://arxiv.org/abs/2112.10752>).
#[derive(Module, Debug)]
pub struct UNet2DConditionModel {
    /// `inputs -> channels[0]`
    pub conv_in: Conv2d,
    /// On the projected time.
    pub time_embedding: TimestepEmbedding,
    /// From the latents' size down.
    pub down_blocks: Vec<DownBlock<SpatialTransformer>>,
    /// At the smallest size.
    pub mid_block: MidBlock<SpatialTransformer>,
    /// From the smallest size up.
    pub up_blocks: Vec<UpBlock<SpatialTransformer>>,
    /// Before the last convolution.
    pub conv_norm_out: GroupNorm,
    /// `channels[0] -> outputs`
    pub conv_out: Conv2d,
    #[module(skip)]
    config: UNet2DConditionConfig,
}

impl UNet2DConditionConfig {
    /// A model with fresh weights.
    ///
    /// # Panics
    /// With the message of the error that [`try_init`](Self::try_init) returns.
    pub fn init(&self, device: &Device) -> UNet2DConditionModel {
        accept(self.try_init(device))
    }

    /// A model with fresh weights.
    ///
    /// # Errors
    /// [`AttentionError::Value`]: no levels, channels that the norm groups or the heads do not
    /// divide, attention, heads or transformer blocks that are not given for each level.
    pub fn try_init(&self, device: &Device) -> Result<UNet2DConditionModel, AttentionError> {
        self.validate()?;
        let stages = &self.stages;
        let transformer = |level: usize| {
            let level = level.min(stages.channels.len() - 1);
            let config = SpatialTransformerConfig {
                layers: of_level(&self.transformer_layers, level),
                groups: stages.norm_groups,
                block: TransformerBlockConfig {
                    width: stages.channels[level],
                    text: self.text_width,
                    heads: of_level(&self.heads, level),
                },
            };
            Some(config.init(device))
        };
        let built = stages.build([self.inputs, self.outputs], transformer, device);
        Ok(UNet2DConditionModel {
            conv_in: built.conv_in,
            time_embedding: TimestepEmbedding::new(stages.channels[0], stages.time(), device),
            down_blocks: built.down_blocks,
            mid_block: built.mid_block,
            up_blocks: built.up_blocks,
            conv_norm_out: built.conv_norm_out,
            conv_out: built.conv_out,
            config: self.clone(),
        })
    }

    fn validate(&self) -> Result<(), AttentionError> {
        self.stages.validate()?;
        let channels = &self.stages.channels;
        for (argument, given) in [
            ("heads", &self.heads),
            ("transformer_layers", &self.transformer_layers),
        ] {
            if given.len() != 1 && given.len() != channels.len() {
                let accepted = format!("one number, or one for each of {} levels", channels.len());
                return refuse(argument, format!("{given:?}"), accepted);
            }
        }
        for (level, width) in channels.iter().enumerate() {
            let heads = of_level(&self.heads, level);
            if heads == 0 || !width.is_multiple_of(heads) || width / heads > MAX_HEAD_DIM {
                let accepted = format!(
                    "divisors of the channels {channels:?}, heads at most {MAX_HEAD_DIM} wide"
                );
                return refuse("heads", format!("{:?}", self.heads), accepted);
            }
        }
        Ok(())
    }
}

/// A number for each level, or one for all.
fn of_level(numbers: &[usize], level: usize) -> usize {
    numbers[level.min(numbers.len() - 1)]
}

impl UNet2DConditionModel {
    /// Reads a folder that diffusers' `UNet2DConditionModel.save_pretrained` wrote.
    ///
    /// # Errors
    /// [`CheckpointError`]: a file that is missing, truncated or of another kind, another
    /// architecture, an option that is not offered, or every tensor that does not fit.
    pub fn load(place: impl AsRef<Path>, device: &Device) -> Result<Self, CheckpointError> {
        files::load_conditional(&find(place)?, device)
    }

    /// Writes the model as a folder that diffusers reads.
    ///
    /// # Errors
    /// [`CheckpointError`]: a folder that cannot be written.
    pub fn save(&self, folder: impl AsRef<Path>) -> Result<(), CheckpointError> {
        save(self, files::conditional(&self.config), folder.as_ref())
    }

    /// The sizes and variants of this model.
    pub fn config(&self) -> &UNet2DConditionConfig {
        &self.config
    }

    /// What the model predicts, `[batch, outputs, height, width]`, of latents
    /// `[batch, inputs, height, width]` at `timesteps [batch]` with the text
    /// `[batch, tokens, text_width]`.
    ///
    /// # Panics
    /// With the message of the error that [`try_forward`](Self::try_forward) returns.
    pub fn forward(&self, sample: Tensor<4>, timesteps: Tensor<1>, text: Tensor<3>) -> Tensor<4> {
        accept(self.try_forward(sample, timesteps, text, &mut Plain))
    }

    /// [`forward`](Self::forward), with a say in every attention.
    ///
    /// # Errors
    /// [`AttentionError::Shape`]: latents whose channels or size do not fit, times or texts that are
    /// not one for each, a text of another width.
    pub fn try_forward(
        &self,
        sample: Tensor<4>,
        timesteps: Tensor<1>,
        text: Tensor<3>,
        control: &mut dyn AttentionControl,
    ) -> Result<Tensor<4>, AttentionError> {
        let stages = &self.config.stages;
        stages.check(&sample, &timesteps, self.config.inputs)?;
        let (batch, width) = (sample.dims()[0], self.config.text_width);
        let [texts, tokens, given] = text.dims();
        if texts != batch || tokens == 0 || given != width {
            return Err(AttentionError::Shape {
                argument: "text",
                given: text.dims().to_vec(),
                accepted: format!("[{batch}, tokens, {width}]"),
            });
        }
        let projected = self.config.time.forward(timesteps, stages.channels[0]);
        let time = self.time_embedding.forward(projected);
        let text = text.cast(self.conv_in.weight.dtype());
        let body = Body {
            conv_in: &self.conv_in,
            down_blocks: &self.down_blocks,
            mid_block: &self.mid_block,
            up_blocks: &self.up_blocks,
            conv_norm_out: &self.conv_norm_out,
            conv_out: &self.conv_out,
        };
        body.forward(sample, time, Context::new(Some(text), control))
    }
}
