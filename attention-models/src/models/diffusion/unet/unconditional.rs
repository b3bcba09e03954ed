use std::path::Path;

use attention_core::AttentionError;
use burn::config::Config;
use burn::module::Module;
use burn::nn::{Embedding, EmbeddingConfig, GroupNorm, conv::Conv2d};
use burn::tensor::{Device, Int, Tensor};

use super::{Body, Stages, files, refuse};
use crate::models::checkpoint::{CheckpointError, find};
use crate::models::diffusion::blocks::{
    Attention, AttentionConfig, DownBlock, MidBlock, TimeProjection, TimestepEmbedding, UpBlock,
};
use crate::models::diffusion::{AttentionControl, Context, Plain, folder::save};
use crate::ops::accept;

/// The sizes and variants of a [`UNet2DModel`].
///
/// ```
/// use attention_models::models::diffusion::{Stages, UNet2DConfig};
/// use burn::tensor::{Device, Tensor};
///
/// let device = Device::flex();
/// // Two levels, the lower one with attention; ten classes.
/// let stages = Stages::new(vec![32, 64], 1, vec![false, true]);
/// let unet = UNet2DConfig::new(1, 1, stages).with_classes(Some(10)).init(&device);
/// let image = Tensor::zeros([2, 1, 28, 28], &device);
/// let times = Tensor::from_data([10.0, 500.0], &device);
/// let classes = Tensor::from_data([3, 7], &device);
/// assert_eq!(unet.forward(image, times, Some(classes)).dims(), [2, 1, 28, 28]);
/// ```
#[derive(Config, Debug, PartialEq)]
pub struct UNet2DConfig {
    /// Channels of the image.
    pub inputs: usize,
    /// Channels of the prediction.
    pub outputs: usize,
    /// The levels.
    pub stages: Stages,
    /// Width of a head; as wide as the level without.
    #[config(default = "Some(8)")]
    pub head_dim: Option<usize>,
    /// Whether there is attention in the middle.
    #[config(default = true)]
    pub middle_attention: bool,
    /// Classes, for a model that is told which to draw.
    #[config(default = "None")]
    pub classes: Option<usize>,
    /// How times are given to the model.
    #[config(default = "TimeProjection { cosine_first: true, frequency_shift: 0.0 }")]
    pub time: TimeProjection,
}

/// diffusers' `UNet2DModel`: predicts the noise in an image from the image and the time, and the
/// class where it has any (Ho et al. 2020, <https://arxiv.org/abs/2006.11239>).
#[derive(Module, Debug)]
pub struct UNet2DModel {
    /// `inputs -> channels[0]`
    pub conv_in: Conv2d,
    /// On the projected time.
    pub time_embedding: TimestepEmbedding,
    /// Added to the time embedding.
    pub class_embedding: Option<Embedding>,
    /// From the image's size down.
    pub down_blocks: Vec<DownBlock<Attention>>,
    /// At the smallest size.
    pub mid_block: MidBlock<Attention>,
    /// From the smallest size up.
    pub up_blocks: Vec<UpBlock<Attention>>,
    /// Before the last convolution.
    pub conv_norm_out: GroupNorm,
    /// `channels[0] -> outputs`
    pub conv_out: Conv2d,
    #[module(skip)]
    config: UNet2DConfig,
}

impl UNet2DConfig {
    /// A model with fresh weights.
    ///
    /// # Panics
    /// With the message of the error that [`try_init`](Self::try_init) returns.
    pub fn init(&self, device: &Device) -> UNet2DModel {
        accept(self.try_init(device))
    }

    /// A model with fresh weights.
    ///
    /// # Errors
    /// [`AttentionError::Value`]: no levels, channels that the norm groups or the width of a head do
    /// not divide, attention that is not given for each level.
    pub fn try_init(&self, device: &Device) -> Result<UNet2DModel, AttentionError> {
        self.validate()?;
        let stages = &self.stages;
        let attention = |level: usize| {
            if level == stages.channels.len() && !self.middle_attention {
                return None;
            }
            let width = stages.channels[level.min(stages.channels.len() - 1)];
            let config = AttentionConfig {
                width,
                context: width,
                heads: width / self.head_dim.unwrap_or(width),
                bias: true,
                norm: Some(stages.norm()),
            };
            Some(config.init(device))
        };
        let built = stages.build([self.inputs, self.outputs], attention, device);
        let time = stages.time();
        Ok(UNet2DModel {
            conv_in: built.conv_in,
            time_embedding: TimestepEmbedding::new(stages.channels[0], time, device),
            class_embedding: self
                .classes
                .map(|classes| EmbeddingConfig::new(classes, time).init(device)),
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
        let Some(head_dim) = self.head_dim else {
            return Ok(());
        };
        let channels = &self.stages.channels;
        if head_dim == 0 || channels.iter().any(|width| !width.is_multiple_of(head_dim)) {
            let accepted = format!("a divisor of each of the channels {channels:?}");
            return refuse("head_dim", head_dim, accepted);
        }
        Ok(())
    }
}

impl UNet2DModel {
    /// Reads a folder that diffusers' `UNet2DModel.save_pretrained` wrote.
    ///
    /// # Errors
    /// [`CheckpointError`]: a file that is missing, truncated or of another kind, another
    /// architecture, an option that is not offered, or every tensor that does not fit.
    pub fn load(place: impl AsRef<Path>, device: &Device) -> Result<Self, CheckpointError> {
        files::load_unconditional(&find(place)?, device)
    }

    /// Writes the model as a folder that diffusers reads.
    ///
    /// # Errors
    /// [`CheckpointError`]: a folder that cannot be written.
    pub fn save(&self, folder: impl AsRef<Path>) -> Result<(), CheckpointError> {
        save(self, files::unconditional(&self.config), folder.as_ref())
    }

    /// The sizes and variants of this model.
    pub fn config(&self) -> &UNet2DConfig {
        &self.config
    }

    /// What the model predicts, `[batch, outputs, height, width]`, of an image
    /// `[batch, inputs, height, width]` at `timesteps [batch]`, of `classes [batch]` where it knows
    /// any.
    ///
    /// # Panics
    /// With the message of the error that [`try_forward`](Self::try_forward) returns.
    pub fn forward(
        &self,
        sample: Tensor<4>,
        timesteps: Tensor<1>,
        classes: Option<Tensor<1, Int>>,
    ) -> Tensor<4> {
        accept(self.try_forward(sample, timesteps, classes, &mut Plain))
    }

    /// [`forward`](Self::forward), with a say in every attention.
    ///
    /// # Errors
    /// [`AttentionError::Shape`]: an image whose channels or size do not fit, times or classes that
    /// are not one for each image, classes for a model without, or none for a model with classes.
    pub fn try_forward(
        &self,
        sample: Tensor<4>,
        timesteps: Tensor<1>,
        classes: Option<Tensor<1, Int>>,
        control: &mut dyn AttentionControl,
    ) -> Result<Tensor<4>, AttentionError> {
        let stages = &self.config.stages;
        stages.check(&sample, &timesteps, self.config.inputs)?;
        let projected = self.config.time.forward(timesteps, stages.channels[0]);
        let time = self.time_embedding.forward(projected);
        let time = match self.class(classes, sample.dims()[0])? {
            Some(class) => time + class,
            None => time,
        };
        let body = Body {
            conv_in: &self.conv_in,
            down_blocks: &self.down_blocks,
            mid_block: &self.mid_block,
            up_blocks: &self.up_blocks,
            conv_norm_out: &self.conv_norm_out,
            conv_out: &self.conv_out,
        };
        body.forward(sample, time, Context::new(None, control))
    }

    fn class(
        &self,
        classes: Option<Tensor<1, Int>>,
        batch: usize,
    ) -> Result<Option<Tensor<2>>, AttentionError> {
        let given = classes.as_ref().map(|classes| classes.dims());
        match (&self.class_embedding, classes) {
            (None, None) => Ok(None),
            (Some(table), Some(classes)) if classes.dims() == [batch] => {
                let embedded = table.forward(classes.unsqueeze_dim::<2>(1));
                Ok(Some(embedded.squeeze_dim::<2>(1)))
            }
            (table, _) => Err(AttentionError::Shape {
                argument: "classes",
                given: given.map_or(Vec::new(), |dims| dims.to_vec()),
                accepted: match table {
                    Some(_) => format!("[{batch}], the batch"),
                    None => "none, for the model knows no classes".into(),
                },
            }),
        }
    }
}
