use attention_core::AttentionError;
use burn::config::Config;
use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use super::{mix, unknown_time};

/// The largest `beta` of the cosine schedule.
const MAX_BETA: f64 = 0.999;

/// How the noise that is added grows from the first time to the last.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum BetaSchedule {
    /// `beta` grows linearly (Ho et al. 2020, <https://arxiv.org/abs/2006.11239>).
    #[default]
    #[serde(rename = "linear")]
    Linear,
    /// The root of `beta` grows linearly (latent diffusion).
    #[serde(rename = "scaled_linear")]
    ScaledLinear,
    /// What is left of the image falls as a squared cosine (Nichol & Dhariwal 2021,
    /// <https://arxiv.org/abs/2102.09672>).
    #[serde(rename = "squaredcos_cap_v2")]
    SquaredCosine,
}

/// The noise at each time of training.
#[derive(Config, Debug, PartialEq)]
pub struct NoiseScheduleConfig {
    /// Number of times.
    #[config(default = 1000)]
    pub times: usize,
    /// `beta` at the first time.
    #[config(default = 0.0001)]
    pub beta_start: f64,
    /// `beta` at the last time.
    #[config(default = 0.02)]
    pub beta_end: f64,
    /// How it grows between them.
    #[config(default = "BetaSchedule::Linear")]
    pub beta_schedule: BetaSchedule,
    /// Whether nothing of the image is left at the last time (Lin et al. 2024,
    /// <https://arxiv.org/abs/2305.08891>).
    #[config(default = false)]
    pub zero_terminal_snr: bool,
}

/// What is left of an image at each time.
#[derive(Debug, Clone, PartialEq)]
pub struct NoiseSchedule {
    /// `alpha_t^2`, the product of `1 - beta` up to each time.
    pub alphas_cumprod: Vec<f64>,
}

impl NoiseScheduleConfig {
    /// Computes the schedule.
    pub fn init(&self) -> NoiseSchedule {
        let alphas_cumprod = self.betas().into_iter().scan(1.0, |product, beta| {
            *product *= 1.0 - beta;
            Some(*product)
        });
        let mut alphas_cumprod: Vec<f64> = alphas_cumprod.collect();
        if self.zero_terminal_snr {
            without_terminal_signal(&mut alphas_cumprod);
        }
        NoiseSchedule { alphas_cumprod }
    }

    fn betas(&self) -> Vec<f64> {
        let last = (self.times.max(2) - 1) as f64;
        let between = |from: f64, to: f64, i: usize| from + (to - from) * i as f64 / last;
        let bar = |time: f64| {
            let angle = (time + 0.008) / 1.008 * std::f64::consts::FRAC_PI_2;
            angle.cos().powi(2)
        };
        let beta = |i: usize| match self.beta_schedule {
            BetaSchedule::Linear => between(self.beta_start, self.beta_end, i),
            BetaSchedule::ScaledLinear => {
                between(self.beta_start.sqrt(), self.beta_end.sqrt(), i).powi(2)
            }
            BetaSchedule::SquaredCosine => {
                let time = |i: usize| i as f64 / self.times as f64;
                (1.0 - bar(time(i + 1)) / bar(time(i))).min(MAX_BETA)
            }
        };
        (0..self.times).map(beta).collect()
    }
}

/// Shifts and scales the roots so that the first stays and the last becomes 0.
fn without_terminal_signal(alphas_cumprod: &mut [f64]) {
    let (Some(first), Some(last)) = (alphas_cumprod.first(), alphas_cumprod.last()) else {
        return;
    };
    let (first, last) = (first.sqrt(), last.sqrt());
    for alpha in alphas_cumprod {
        *alpha = ((alpha.sqrt() - last) * first / (first - last)).powi(2);
    }
}

impl NoiseSchedule {
    /// Number of times.
    pub fn times(&self) -> usize {
        self.alphas_cumprod.len()
    }

    /// The factors `(alpha, sigma)` of image and noise at a time.
    pub fn factors(&self, time: usize) -> (f64, f64) {
        let alpha = self.alphas_cumprod[time];
        (alpha.sqrt(), (1.0 - alpha).sqrt())
    }

    /// Of the product `alpha^2`, what it is `stride` times before `time`; before the first time 1 where
    /// steps end without noise, else that of the first time.
    pub(super) fn product_before(&self, time: usize, stride: usize, to_one: bool) -> f64 {
        match time.checked_sub(stride) {
            Some(before) => self.alphas_cumprod[before],
            None if to_one => 1.0,
            None => self.alphas_cumprod[0],
        }
    }

    /// `sigma / alpha` at each time, growing.
    pub fn sigmas(&self) -> Vec<f64> {
        let sigma = |alpha: &f64| ((1.0 - alpha) / alpha).sqrt();
        self.alphas_cumprod.iter().map(sigma).collect()
    }

    /// Images `clean` as they are at `timesteps`, one for each of the batch, with this `noise`.
    ///
    /// # Errors
    /// [`AttentionError::Value`] for a time that is no whole number below [`times`](Self::times),
    /// [`AttentionError::Shape`] for another number of times than images.
    pub fn add_noise(
        &self,
        clean: Tensor<4>,
        noise: Tensor<4>,
        timesteps: &[f32],
    ) -> Result<Tensor<4>, AttentionError> {
        mix(clean, noise, self.factors_at(timesteps)?)
    }

    /// What a model that predicts `v = alpha noise - sigma image` has to predict (Salimans & Ho
    /// 2022, <https://arxiv.org/abs/2202.00512>).
    ///
    /// # Errors
    /// Those of [`add_noise`](Self::add_noise).
    pub fn velocity(
        &self,
        clean: Tensor<4>,
        noise: Tensor<4>,
        timesteps: &[f32],
    ) -> Result<Tensor<4>, AttentionError> {
        let factors = self.factors_at(timesteps)?.into_iter();
        let factors = factors.map(|(alpha, sigma)| (-sigma, alpha));
        mix(clean, noise, factors.collect())
    }

    fn factors_at(&self, timesteps: &[f32]) -> Result<Vec<(f64, f64)>, AttentionError> {
        let factors = |time: &f32| {
            if time.fract() != 0.0 || *time < 0.0 || *time as usize >= self.times() {
                let accepted = format!("whole numbers below {}", self.times());
                return Err(unknown_time(*time, accepted));
            }
            Ok(self.factors(*time as usize))
        };
        timesteps.iter().map(factors).collect()
    }
}
