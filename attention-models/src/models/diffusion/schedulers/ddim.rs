use attention_core::AttentionError;
use burn::config::Config;
use burn::tensor::Tensor;

use super::{Clip, NoiseSchedule, NoiseScheduleConfig, Prediction, Scheduler, Spacing};
use crate::models::diffusion::Noise;

/// Options of [`Ddim`].
#[derive(Config, Debug, PartialEq)]
pub struct DdimConfig {
    /// The noise at each time of training.
    #[config(default = "NoiseScheduleConfig::new()")]
    pub noise: NoiseScheduleConfig,
    /// The times of the steps.
    #[config(default = "Spacing::default()")]
    pub spacing: Spacing,
    /// What the model predicts.
    #[config(default = "Prediction::Epsilon")]
    pub prediction: Prediction,
    /// What is done to large values.
    #[config(default = "Clip::At(1.0)")]
    pub clip: Clip,
    /// Whether the noise that stays in the sample is that beside the clipped image (GLIDE, Nichol et al.
    /// 2022, <https://arxiv.org/abs/2112.10741>), else the one that the model predicts.
    #[config(default = false)]
    pub clipped_noise: bool,
    /// Whether the last step ends without noise, else with that of the first time.
    #[config(default = true)]
    pub set_alpha_to_one: bool,
    /// From 0, deterministic, to 1, as much noise as [`Ddpm`](super::Ddpm) adds.
    #[config(default = 0.0)]
    pub eta: f64,
}

/// Deterministic sampling (Song et al. 2021, <https://arxiv.org/abs/2010.02502>).
#[derive(Debug, Clone)]
pub struct Ddim {
    config: DdimConfig,
    noise: NoiseSchedule,
    times: Vec<usize>,
    timesteps: Vec<f32>,
}

impl DdimConfig {
    /// For so many steps.
    ///
    /// # Errors
    /// [`AttentionError::Value`] for no steps, or more than the times of training.
    pub fn try_init(&self, steps: usize) -> Result<Ddim, AttentionError> {
        let times = self.spacing.whole(steps, self.noise.times)?;
        Ok(Ddim {
            config: self.clone(),
            noise: self.noise.init(),
            timesteps: times.iter().map(|time| *time as f32).collect(),
            times,
        })
    }
}

impl Scheduler for Ddim {
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
        let stride = self.noise.times() / self.times.len();
        let product = self.noise.alphas_cumprod[time];
        let to_one = self.config.set_alpha_to_one;
        let after = self.noise.product_before(time, stride, to_one);
        let factors = self.noise.factors(time);
        let prediction = self.config.prediction;
        let image = prediction.image(output.clone(), sample.clone(), factors);
        let image = self.config.clip.apply(image);
        let direction = if self.config.clipped_noise {
            let (alpha, sigma) = factors;
            (sample - image.clone().mul_scalar(alpha)).div_scalar(sigma)
        } else {
            prediction.noise(output, sample, factors)
        };

        // Formulas (12) and (16) of the paper.
        let variance = (1.0 - after) / (1.0 - product) * (1.0 - product / after);
        let deviation = self.config.eta * variance.max(0.0).sqrt();
        let towards = (1.0 - after - deviation.powi(2)).max(0.0).sqrt();
        let next = image.mul_scalar(after.sqrt()) + direction.mul_scalar(towards);
        if deviation == 0.0 {
            return next;
        }
        let drawn = noise.normal(next.dims(), &next.device());
        next + drawn.mul_scalar(deviation)
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
