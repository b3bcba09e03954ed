use std::path::Path;

use attention_core::AttentionError;
use burn::config::Config;
use burn::tensor::{Device, Tensor};

use crate::models::checkpoint::{CheckpointError, find};
use crate::models::diffusion::{
    AttentionControl, AutoencoderKl, Noise, UNet2DConditionModel, schedulers::SchedulerConfig,
};

/// The parts of Stable Diffusion that know no language: they make pictures of the vectors of a text
/// (Rombach et al. 2022, <https://arxiv.org/abs/2112.10752>).
#[derive(Debug)]
pub struct LatentDiffusion {
    /// Predicts noise.
    pub unet: UNet2DConditionModel,
    /// Between latents and pixels.
    pub vae: AutoencoderKl,
    /// Takes noise away.
    pub scheduler: SchedulerConfig,
}

/// How a picture is sampled.
#[derive(Config, Debug, PartialEq)]
pub struct SamplingConfig {
    /// Steps of the scheduler.
    #[config(default = 50)]
    pub steps: usize,
    /// How far predictions are moved away from those without the text; 1 and less: not at all, at
    /// half the cost.
    #[config(default = 7.5)]
    pub guidance: f64,
}

/// What texts say, as vectors `[images, tokens, width]`.
#[derive(Debug, Clone)]
pub struct Guidance {
    /// Of the prompts.
    pub text: Tensor<3>,
    /// Of what the pictures should not show; of an empty text where nothing is said.
    pub negative: Tensor<3>,
}

impl LatentDiffusion {
    /// Reads the folders `unet`, `vae` and `scheduler` of a pipeline that diffusers wrote.
    ///
    /// # Errors
    /// [`CheckpointError`] of the first part that cannot be used.
    pub fn load(place: impl AsRef<Path>, device: &Device) -> Result<Self, CheckpointError> {
        let folder = find(place)?;
        Ok(Self {
            unet: UNet2DConditionModel::load(folder.join("unet"), device)?,
            vae: AutoencoderKl::load(folder.join("vae"), device)?,
            scheduler: SchedulerConfig::load(folder.join("scheduler"))?,
        })
    }

    /// `[height, width]` in pixels of the pictures that the models were made for.
    pub fn size(&self) -> [usize; 2] {
        [self.unet.config().sample_size * self.vae.scale(); 2]
    }

    /// Noise for so many pictures of `[height, width]` pixels.
    ///
    /// # Errors
    /// [`AttentionError::Value`] for a size that is no multiple of what the models shrink it by.
    pub fn noise(
        &self,
        images: usize,
        size: [usize; 2],
        noise: &mut Noise,
        device: &Device,
    ) -> Result<Tensor<4>, AttentionError> {
        let levels = self.unet.config().stages.channels.len();
        let side = self.vae.scale() << (levels - 1);
        let [height, width] = size;
        let fits = |length: usize| length > 0 && length.is_multiple_of(side);
        if !fits(height) || !fits(width) {
            return Err(AttentionError::Value {
                argument: "size",
                given: format!("{height} x {width}"),
                accepted: format!("multiples of {side} pixels"),
            });
        }
        let [rows, columns] = size.map(|length| length / self.vae.scale());
        let channels = self.vae.config().latent_channels;
        Ok(noise.normal([images, channels, rows, columns], device))
    }

    /// The latents `[images, channels, height, width]` that are left of `noise` after all steps.
    ///
    /// Each pass of the UNet has the pictures twice, first without, then with their text, unless
    /// there is no guidance (Ho & Salimans 2022, <https://arxiv.org/abs/2207.12598>); `control` has
    /// a say in each of its attentions. `after_step` sees the latents after each step.
    ///
    /// # Errors
    /// [`AttentionError`]: latents or texts that do not fit the model, no steps, more than the model
    /// was trained with, or a control for another number of pictures.
    pub fn sample(
        &self,
        noise: Tensor<4>,
        guidance: &Guidance,
        config: &SamplingConfig,
        control: &mut dyn AttentionControl,
        generator: &mut Noise,
        mut after_step: impl FnMut(usize, &Tensor<4>),
    ) -> Result<Tensor<4>, AttentionError> {
        let images = noise.dims()[0];
        check_images(control, images)?;
        let mut scheduler = self.scheduler.try_init(config.steps)?;
        let timesteps = scheduler.timesteps().to_vec();
        let guided = config.guidance > 1.0;
        let passes = if guided { 2 } else { 1 };
        let text = if guided {
            Tensor::cat(vec![guidance.negative.clone(), guidance.text.clone()], 0)
        } else {
            guidance.text.clone()
        };

        let device = noise.device();
        let dtype = noise.dtype();
        let mut latents = noise.mul_scalar(scheduler.initial_sigma());
        for (step, &time) in timesteps.iter().enumerate() {
            control.begin_step(step, timesteps.len());
            let input = scheduler.model_input(latents.clone(), step);
            let input = Tensor::cat(vec![input; passes], 0);
            let times = Tensor::<1>::full([passes * images], time, &device);
            let output = self.unet.try_forward(input, times, text.clone(), control)?;
            // The UNet may compute in a smaller type; the steps, which add up, do not.
            let output = output.cast(dtype);
            let output = if guided {
                let without = output.clone().slice_dim(0, ..images);
                let with = output.slice_dim(0, images..);
                without.clone() + (with - without).mul_scalar(config.guidance)
            } else {
                output
            };
            latents = scheduler.step(output, step, latents, generator);
            after_step(step, &latents);
        }
        Ok(latents)
    }

    /// The pictures `[images, 3, height, width]` of latents, from 0 to 1.
    ///
    /// # Errors
    /// [`AttentionError::Shape`] for latents of other channels.
    pub fn decode(&self, latents: Tensor<4>) -> Result<Tensor<4>, AttentionError> {
        let latents = latents.div_scalar(self.vae.config().scaling_factor);
        let pixels = self.vae.try_decode(latents)?;
        Ok((pixels.mul_scalar(0.5) + 0.5).clamp(0.0, 1.0))
    }
}

/// Refuses a control that was made for another number of pictures.
fn check_images(control: &dyn AttentionControl, images: usize) -> Result<(), AttentionError> {
    match control.images() {
        Some(accepted) if accepted != images => Err(AttentionError::Value {
            argument: "noise",
            given: format!("{images} images"),
            accepted: format!("{accepted}, as the control has"),
        }),
        _ => Ok(()),
    }
}
