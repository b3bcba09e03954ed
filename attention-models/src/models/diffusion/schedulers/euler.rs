use attention_core::AttentionError;
use burn::config::Config;
use burn::tensor::Tensor;

use super::{
    FinalSigma, NoiseScheduleConfig, Prediction, Scheduler, Spacing, TimestepSpacing, mix, sigmas,
    unknown_time,
};
use crate::models::diffusion::Noise;

/// Options of [`Euler`].
#[derive(Config, Debug, PartialEq)]
pub struct EulerConfig {
    /// The noise at each time of training.
    #[config(default = "NoiseScheduleConfig::new()")]
    pub noise: NoiseScheduleConfig,
    /// The times of the steps.
    #[config(default = "Spacing::new(TimestepSpacing::Linspace, 0)")]
    pub spacing: Spacing,
    /// What the model predicts.
    #[config(default = "Prediction::Epsilon")]
    pub prediction: Prediction,
    /// Whether noise levels are laid as by Karras et al.
    #[config(default = false)]
    pub karras: bool,
    /// The noise after the last step.
    #[config(default = "FinalSigma::Zero")]
    pub final_sigma: FinalSigma,
}

/// Euler steps along the probability flow (Karras et al. 2022, algorithm 2 without churn,
/// <https://arxiv.org/abs/2206.00364>). Samples are `x_0 + sigma noise` here, and scaled to variance
/// 1 for the model.
#[derive(Debug, Clone)]
pub struct Euler {
    config: EulerConfig,
    sigmas: Vec<f64>,
    timesteps: Vec<f32>,
}

impl EulerConfig {
    /// For so many steps.
    ///
    /// # Errors
    /// [`AttentionError::Value`] for no steps, or more than the times of training.
    pub fn try_init(&self, steps: usize) -> Result<Euler, AttentionError> {
        let times = self.spacing.exact(steps, self.noise.times)?;
        let trained = sigmas::trained(&self.noise.init().alphas_cumprod);
        let level = |time: &f64| sigmas::at_time(&trained, *time);
        let levels: Vec<f64> = times.iter().map(level).collect();
        let (mut levels, times) = if self.karras {
            let levels = sigmas::karras(levels[0], levels[steps - 1], steps);
            let time = |level: &f64| sigmas::time_of(&trained, *level);
            let times = levels.iter().map(time).collect();
            (levels, times)
        } else {
            (levels, times)
        };
        levels.push(self.final_sigma.of(&trained));
        Ok(Euler {
            config: self.clone(),
            sigmas: levels,
            timesteps: times.iter().map(|time| *time as f32).collect(),
        })
    }
}

impl Euler {
    /// The noise level before each step, and after the last.
    pub fn sigmas(&self) -> &[f64] {
        &self.sigmas
    }
}

impl Scheduler for Euler {
    fn timesteps(&self) -> &[f32] {
        &self.timesteps
    }

    fn initial_sigma(&self) -> f64 {
        let largest = self.sigmas.iter().copied().fold(0.0, f64::max);
        match self.config.spacing.kind {
            TimestepSpacing::Leading => (largest.powi(2) + 1.0).sqrt(),
            _ => largest,
        }
    }

    fn model_input(&self, sample: Tensor<4>, step: usize) -> Tensor<4> {
        sample.mul_scalar(sigmas::factors(self.sigmas[step]).0)
    }

    fn step(
        &mut self,
        output: Tensor<4>,
        step: usize,
        sample: Tensor<4>,
        _noise: &mut Noise,
    ) -> Tensor<4> {
        let (level, next) = (self.sigmas[step], self.sigmas[step + 1]);
        let factors = sigmas::factors(level);
        let scaled = sample.clone().mul_scalar(factors.0);
        let image = self.config.prediction.image(output, scaled, factors);
        let slope = (sample.clone() - image).div_scalar(level);
        sample + slope.mul_scalar(next - level)
    }

    fn add_noise(
        &self,
        clean: Tensor<4>,
        noise: Tensor<4>,
        timesteps: &[f32],
    ) -> Result<Tensor<4>, AttentionError> {
        let levels = levels_at(&self.timesteps, &self.sigmas, timesteps)?;
        let factors = levels.into_iter().map(|level| (1.0, level));
        mix(clean, noise, factors.collect())
    }
}

/// The noise levels at times that are among those of the steps.
pub(super) fn levels_at(
    known: &[f32],
    sigmas: &[f64],
    timesteps: &[f32],
) -> Result<Vec<f64>, AttentionError> {
    let level = |time: &f32| match known.iter().position(|known| known == time) {
        Some(step) => Ok(sigmas[step]),
        None => Err(unknown_time(*time, format!("one of {known:?}"))),
    };
    timesteps.iter().map(level).collect()
}
