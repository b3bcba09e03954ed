use attention_core::AttentionError;
use burn::config::Config;
use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use super::{Clip, NoiseSchedule, NoiseScheduleConfig, Prediction, Scheduler, Spacing};
use crate::models::diffusion::Noise;

/// How much noise a step of [`Ddpm`] adds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Variance {
    /// The variance of the step before, given the image: the lower bound.
    #[default]
    FixedSmall,
    /// `beta`: the upper bound.
    FixedLarge,
}

/// Options of [`Ddpm`].
#[derive(Config, Debug, PartialEq)]
pub struct DdpmConfig {
    /// The noise at each time of training.
    #[config(default = "NoiseScheduleConfig::new()")]
    pub noise: NoiseScheduleConfig,
    /// The times of the steps.
    #[config(default = "Spacing::default()")]
    pub spacing: Spacing,
    /// What the model predicts.
    #[config(default = "Prediction::Epsilon")]
    pub prediction: Prediction,
    /// How much noise is added.
    #[config(default = "Variance::FixedSmall")]
    pub variance: Variance,
    /// What is done to large values.
    #[config(default = "Clip::At(1.0)")]
    pub clip: Clip,
}

/// Ancestral sampling: each step draws from what the step before may have been (Ho et al. 2020,
/// <https://arxiv.org/abs/2006.11239>).
#[derive(Debug, Clone)]
pub struct Ddpm {
    config: DdpmConfig,
    noise: NoiseSchedule,
    times: Vec<usize>,
    timesteps: Vec<f32>,
}

impl DdpmConfig {
    /// For so many steps.
    ///
    /// # Errors
    /// [`AttentionError::Value`] for no steps, or more than the times of training.
    pub fn try_init(&self, steps: usize) -> Result<Ddpm, AttentionError> {
        let times = self.spacing.whole(steps, self.noise.times)?;
        Ok(Ddpm {
            config: self.clone(),
            noise: self.noise.init(),
            timesteps: times.iter().map(|time| *time as f32).collect(),
            times,
        })
    }
}

impl Scheduler for Ddpm {
    fn timesteps(&self) -> &[f32] {
        &self.timesteps
    }

    fn step(
        &mut self,
        output: Tensor<4>,
        step: usize,
        sample: Tensor<4>,
        noise: &mut Noise,
    ) -> Tensor<4> {
        let time = self.times[step];
        let product = self.noise.alphas_cumprod[time];
        let before = match self.times.get(step + 1) {
            Some(time) => self.noise.alphas_cumprod[*time],
            None => 1.0,
        };
        let (alpha, beta) = (product / before, 1.0 - product / before);
        let factors = self.noise.factors(time);
        let image = self
            .config
            .prediction
            .image(output, sample.clone(), factors);
        let image = self.config.clip.apply(image);

        // Formula (7) of the paper.
        let of_image = before.sqrt() * beta / (1.0 - product);
        let of_sample = alpha.sqrt() * (1.0 - before) / (1.0 - product);
        let mean = image.mul_scalar(of_image) + sample.mul_scalar(of_sample);
        if time == 0 {
            return mean;
        }
        let variance = match self.config.variance {
            Variance::FixedSmall => ((1.0 - before) / (1.0 - product) * beta).max(1e-20),
            Variance::FixedLarge => beta,
        };
        let drawn = noise.normal(mean.dims(), &mean.device());
        mean + drawn.mul_scalar(variance.sqrt())
    }

    fn add_noise(
        &self,
        clean: Tensor<4>,
        noise: Tensor<4>,
        timesteps: &[f32],
    ) -> Result<Tensor<4>, AttentionError> {
        self.noise.add_noise(clean, noise, timesteps)
    }
}
