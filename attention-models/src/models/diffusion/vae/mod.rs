//! The autoencoder between pixels and the latents in which diffusion happens (Rombach et al. 2022,
//! <https://arxiv.org/abs/2112.10752>; Kingma & Welling 2014, <https://arxiv.org/abs/1312.6114>).

mod config;
mod file;

pub use config::AutoencoderKlConfig;

use std::path::Path;

use attention_core::AttentionError;
use burn::module::Module;
use burn::nn::{GroupNorm, conv::Conv2d};
use burn::tensor::{Device, Tensor};

use super::blocks::{Attention, Downsample, MidBlock, ResnetBlock, Upsample};
use super::folder::{DiffusersFolder, save};
use super::{Context, Plain};
use crate::models::blocks::{group_norm, silu};
use crate::models::checkpoint::{CheckpointError, find};
use crate::ops::accept;
use file::{AutoencoderFile, OFFERED};

/// diffusers' `AutoencoderKL`.
#[derive(Module, Debug)]
pub struct AutoencoderKl {
    /// From pixels to mean and log-variance.
    pub encoder: Encoder,
    /// From latents to pixels.
    pub decoder: Decoder,
    /// After the encoder.
    pub quant_conv: Option<Conv2d>,
    /// Before the decoder.
    pub post_quant_conv: Option<Conv2d>,
    #[module(skip)]
    config: AutoencoderKlConfig,
}

/// A normal distribution of latents, each on its own.
#[derive(Debug, Clone)]
pub struct Posterior {
    /// `[batch, latent_channels, height, width]`, also the likeliest latents.
    pub mean: Tensor<4>,
    /// Logarithm of the variance, as `mean`.
    pub log_variance: Tensor<4>,
}

impl Posterior {
    /// Latents at this `noise` of mean 0 and variance 1.
    pub fn at(&self, noise: Tensor<4>) -> Tensor<4> {
        self.mean.clone() + self.log_variance.clone().mul_scalar(0.5).exp() * noise
    }
}

/// The way down.
#[derive(Module, Debug)]
pub struct Encoder {
    /// `image_channels -> channels[0]`
    pub conv_in: Conv2d,
    /// From the image's size down.
    pub down_blocks: Vec<EncoderBlock>,
    /// At the latents' size.
    pub mid_block: MidBlock<Attention>,
    /// Before the last convolution.
    pub conv_norm_out: GroupNorm,
    /// `channels.last() -> 2 latent_channels`
    pub conv_out: Conv2d,
}

/// The way up.
#[derive(Module, Debug)]
pub struct Decoder {
    /// `latent_channels -> channels.last()`
    pub conv_in: Conv2d,
    /// At the latents' size.
    pub mid_block: MidBlock<Attention>,
    /// From the latents' size up.
    pub up_blocks: Vec<DecoderBlock>,
    /// Before the last convolution.
    pub conv_norm_out: GroupNorm,
    /// `channels[0] -> image_channels`
    pub conv_out: Conv2d,
}

/// One level of the encoder.
#[derive(Module, Debug)]
pub struct EncoderBlock {
    /// The residual blocks.
    pub resnets: Vec<ResnetBlock>,
    /// One, but for the lowest level.
    pub downsamplers: Vec<Downsample>,
}

/// One level of the decoder.
#[derive(Module, Debug)]
pub struct DecoderBlock {
    /// The residual blocks.
    pub resnets: Vec<ResnetBlock>,
    /// One, but for the highest level.
    pub upsamplers: Vec<Upsample>,
}

impl AutoencoderKl {
    /// Reads a folder that diffusers' `AutoencoderKL.save_pretrained` wrote.
    ///
    /// # Errors
    /// [`CheckpointError`]: a file that is missing, truncated or of another kind, another
    /// architecture, an option that is not offered, or every tensor that does not fit.
    pub fn load(place: impl AsRef<Path>, device: &Device) -> Result<Self, CheckpointError> {
        let folder = DiffusersFolder::open(&find(place)?, &["AutoencoderKL"])?;
        let file: AutoencoderFile = folder.config(&OFFERED)?;
        let model = file.config();
        let model = model
            .try_init(device)
            .map_err(|error| folder.invalid(error))?;
        folder.load(model)
    }

    /// Writes the model as a folder that diffusers reads.
    ///
    /// # Errors
    /// [`CheckpointError`]: a folder that cannot be written.
    pub fn save(&self, folder: impl AsRef<Path>) -> Result<(), CheckpointError> {
        save(self, file::of(&self.config), folder.as_ref())
    }

    /// The sizes of this model.
    pub fn config(&self) -> &AutoencoderKlConfig {
        &self.config
    }

    /// Pixels along one side of a latent.
    pub fn scale(&self) -> usize {
        1 << (self.config.channels.len() - 1)
    }

    /// The distribution of the latents of images `[batch, image_channels, height, width]` with
    /// values from -1 to 1.
    ///
    /// # Panics
    /// With the message of the error that [`try_encode`](Self::try_encode) returns.
    pub fn encode(&self, images: Tensor<4>) -> Posterior {
        accept(self.try_encode(images))
    }

    /// [`encode`](Self::encode), refusing bad input with a typed error.
    ///
    /// # Errors
    /// [`AttentionError::Shape`] for images of other channels, or of sides that are not multiples of
    /// [`scale`](Self::scale).
    pub fn try_encode(&self, images: Tensor<4>) -> Result<Posterior, AttentionError> {
        check("images", &images, self.config.image_channels, self.scale())?;
        let moments = self.encoder.forward(images);
        let moments = match &self.quant_conv {
            Some(conv) => conv.forward(moments),
            None => moments,
        };
        let latents = self.config.latent_channels;
        Ok(Posterior {
            mean: moments.clone().slice_dim(1, ..latents),
            log_variance: moments.slice_dim(1, latents..).clamp(-30.0, 20.0),
        })
    }

    /// The images, about from -1 to 1, of latents `[batch, latent_channels, height, width]`.
    ///
    /// # Panics
    /// With the message of the error that [`try_decode`](Self::try_decode) returns.
    pub fn decode(&self, latents: Tensor<4>) -> Tensor<4> {
        accept(self.try_decode(latents))
    }

    /// [`decode`](Self::decode), refusing bad input with a typed error.
    ///
    /// # Errors
    /// [`AttentionError::Shape`] for latents of other channels, or without any pixel.
    pub fn try_decode(&self, latents: Tensor<4>) -> Result<Tensor<4>, AttentionError> {
        check("latents", &latents, self.config.latent_channels, 1)?;
        let latents = match &self.post_quant_conv {
            Some(conv) => conv.forward(latents),
            None => latents,
        };
        Ok(self.decoder.forward(latents))
    }
}

fn check(
    argument: &'static str,
    images: &Tensor<4>,
    channels: usize,
    side: usize,
) -> Result<(), AttentionError> {
    let [batch, given, height, width] = images.dims();
    let fits = |length: usize| length > 0 && length.is_multiple_of(side);
    if batch > 0 && given == channels && fits(height) && fits(width) {
        return Ok(());
    }
    Err(AttentionError::Shape {
        argument,
        given: images.dims().to_vec(),
        accepted: format!(
            "[batch, {channels}, height, width] with height and width multiples of {side}"
        ),
    })
}

impl Encoder {
    fn forward(&self, images: Tensor<4>) -> Tensor<4> {
        let mut x = self.conv_in.forward(images);
        for block in &self.down_blocks {
            x = block
                .resnets
                .iter()
                .fold(x, |x, resnet| resnet.forward(x, None));
            x = block.downsamplers.iter().fold(x, |x, down| down.forward(x));
        }
        let x = self
            .mid_block
            .forward(x, None, &mut Context::new(None, &mut Plain));
        self.conv_out
            .forward(silu(group_norm(&self.conv_norm_out, x)))
    }
}

impl Decoder {
    fn forward(&self, latents: Tensor<4>) -> Tensor<4> {
        let x = self.conv_in.forward(latents);
        let mut x = self
            .mid_block
            .forward(x, None, &mut Context::new(None, &mut Plain));
        for block in &self.up_blocks {
            x = block
                .resnets
                .iter()
                .fold(x, |x, resnet| resnet.forward(x, None));
            x = block.upsamplers.iter().fold(x, |x, up| up.forward(x));
        }
        self.conv_out
            .forward(silu(group_norm(&self.conv_norm_out, x)))
    }
}
