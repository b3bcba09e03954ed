//! How an autoencoder is made.

use attention_core::AttentionError;
use burn::config::Config;
use burn::tensor::Device;

use super::{AutoencoderKl, Decoder, DecoderBlock, Encoder, EncoderBlock};
use crate::models::diffusion::blocks::{
    Attention, AttentionConfig, Downsample, MidBlock, Norm, ResnetBlock, ResnetBlockConfig,
    Upsample, convolution,
};
use crate::ops::accept;

/// Added to the variance in every norm.
const EPSILON: f64 = 1e-6;

/// The sizes of an [`AutoencoderKl`].
///
/// ```
/// use attention_models::models::diffusion::AutoencoderKlConfig;
/// use burn::tensor::{Device, Tensor};
///
/// let device = Device::flex();
/// let vae = AutoencoderKlConfig::new(vec![32, 64], 1).init(&device);
/// let latents = vae.encode(Tensor::zeros([1, 3, 16, 24], &device)).mean;
/// assert_eq!(latents.dims(), [1, 4, 8, 12]);
/// assert_eq!(vae.decode(latents).dims(), [1, 3, 16, 24]);
/// ```
#[derive(Config, Debug, PartialEq)]
pub struct AutoencoderKlConfig {
    /// Channels of each level, from the image's own size down.
    pub channels: Vec<usize>,
    /// Residual blocks of each level of the encoder; there is one more in the decoder.
    pub layers: usize,
    /// Channels of an image.
    #[config(default = 3)]
    pub image_channels: usize,
    /// Channels of the latents.
    #[config(default = 4)]
    pub latent_channels: usize,
    /// Groups of every norm.
    #[config(default = 32)]
    pub norm_groups: usize,
    /// Whether there is attention in the middle of encoder and decoder.
    #[config(default = true)]
    pub middle_attention: bool,
    /// A convolution of one pixel after the encoder, and one before the decoder.
    #[config(default = "[true, true]")]
    pub quant_conv: [bool; 2],
    /// What latents are multiplied by before diffusion.
    #[config(default = 0.18215)]
    pub scaling_factor: f64,
}

impl AutoencoderKlConfig {
    /// A model with fresh weights.
    ///
    /// # Panics
    /// With the message of the error that [`try_init`](Self::try_init) returns.
    pub fn init(&self, device: &Device) -> AutoencoderKl {
        accept(self.try_init(device))
    }

    /// A model with fresh weights.
    ///
    /// # Errors
    /// [`AttentionError::Value`] for no levels, or channels that the norm groups do not divide.
    pub fn try_init(&self, device: &Device) -> Result<AutoencoderKl, AttentionError> {
        let groups = self.norm_groups;
        let fits = |width: &usize| groups > 0 && *width > 0 && width.is_multiple_of(groups);
        if self.channels.is_empty() || self.layers == 0 || !self.channels.iter().all(fits) {
            return Err(AttentionError::Value {
                argument: "channels",
                given: format!("{:?} of {} layers", self.channels, self.layers),
                accepted: format!("multiples of the {groups} norm groups, at least 1 layer"),
            });
        }
        let latents = self.latent_channels;
        let [quant_conv, post_quant] = self.quant_conv;
        let quant = |given: bool, width| given.then(|| convolution([width, width], 1, device));
        Ok(AutoencoderKl {
            encoder: self.encoder(device),
            decoder: self.decoder(device),
            quant_conv: quant(quant_conv, 2 * latents),
            post_quant_conv: quant(post_quant, latents),
            config: self.clone(),
        })
    }

    fn encoder(&self, device: &Device) -> Encoder {
        let (first, lowest) = self.ends();
        let mut from = first;
        let block = |(level, &width): (usize, &usize)| {
            let resnets = self.resnets(from, width, self.layers, device);
            from = width;
            let last = level + 1 == self.channels.len();
            let downsample = (!last).then(|| Downsample::new(width, false, device));
            EncoderBlock {
                resnets,
                downsamplers: downsample.into_iter().collect(),
            }
        };
        Encoder {
            conv_in: convolution([self.image_channels, first], 3, device),
            down_blocks: self.channels.iter().enumerate().map(block).collect(),
            mid_block: self.middle(device),
            conv_norm_out: self.norm().init(lowest, device),
            conv_out: convolution([lowest, 2 * self.latent_channels], 3, device),
        }
    }

    fn decoder(&self, device: &Device) -> Decoder {
        let (first, lowest) = self.ends();
        let mut from = lowest;
        let block = |(level, &width): (usize, &usize)| {
            let resnets = self.resnets(from, width, self.layers + 1, device);
            from = width;
            let last = level + 1 == self.channels.len();
            let upsample = (!last).then(|| Upsample::new(width, device));
            DecoderBlock {
                resnets,
                upsamplers: upsample.into_iter().collect(),
            }
        };
        Decoder {
            conv_in: convolution([self.latent_channels, lowest], 3, device),
            mid_block: self.middle(device),
            up_blocks: self.channels.iter().rev().enumerate().map(block).collect(),
            conv_norm_out: self.norm().init(first, device),
            conv_out: convolution([first, self.image_channels], 3, device),
        }
    }

    /// Channels of the highest and of the lowest level.
    fn ends(&self) -> (usize, usize) {
        (self.channels[0], self.channels[self.channels.len() - 1])
    }

    fn norm(&self) -> Norm {
        Norm {
            groups: self.norm_groups,
            epsilon: EPSILON,
        }
    }

    fn resnets(
        &self,
        inputs: usize,
        outputs: usize,
        layers: usize,
        device: &Device,
    ) -> Vec<ResnetBlock> {
        let resnet = |layer: usize| {
            let config = ResnetBlockConfig {
                inputs: if layer == 0 { inputs } else { outputs },
                outputs,
                time: None,
                norm: self.norm(),
            };
            config.init(device)
        };
        (0..layers).map(resnet).collect()
    }

    fn middle(&self, device: &Device) -> MidBlock<Attention> {
        let (_, width) = self.ends();
        let attention = AttentionConfig {
            width,
            context: width,
            heads: 1,
            bias: true,
            norm: Some(self.norm()),
        };
        let attention = self.middle_attention.then(|| attention.init(device));
        let [before, after] = [0, 1].map(|_| self.resnets(width, width, 1, device).remove(0));
        MidBlock {
            resnets: [before, after],
            attentions: attention.into_iter().collect(),
        }
    }
}
