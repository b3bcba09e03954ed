use std::collections::VecDeque;

use attention_core::AttentionError;
use burn::config::Config;
use burn::tensor::Tensor;

use super::{NoiseSchedule, NoiseScheduleConfig, Prediction, Scheduler, Spacing};
use crate::models::diffusion::Noise;

/// The weights of the noise predicted now and before, latest first, of Adams and Bashforth's methods of
/// order 1 to 4.
const ADAMS_BASHFORTH: [&[f64]; 4] = [
    &[1.0],
    &[3.0 / 2.0, -1.0 / 2.0],
    &[23.0 / 12.0, -16.0 / 12.0, 5.0 / 12.0],
    &[55.0 / 24.0, -59.0 / 24.0, 37.0 / 24.0, -9.0 / 24.0],
];

/// Options of [`Pndm`].
#[derive(Config, Debug, PartialEq)]
pub struct PndmConfig {
    /// The noise at each time of training.
    #[config(default = "NoiseScheduleConfig::new()")]
    pub noise: NoiseScheduleConfig,
    /// The times of the steps.
    #[config(default = "Spacing::default()")]
    pub spacing: Spacing,
    /// What the model predicts: noise or velocity.
    #[config(default = "Prediction::Epsilon")]
    pub prediction: Prediction,
    /// Whether the last step ends without noise, else with that of the first time.
    #[config(default = false)]
    pub set_alpha_to_one: bool,
}

/// Deterministic sampling along a noise that is extrapolated from the steps before, as Stable Diffusion 1
/// ships it: PNDM without Runge-Kutta steps (Liu et al. 2022, <https://arxiv.org/abs/2202.09778>). The
/// first step is made twice, the second time with the mean of the noise at both its ends; so the model
/// is asked once more than there are steps.
#[derive(Debug, Clone)]
pub struct Pndm {
    config: PndmConfig,
    noise: NoiseSchedule,
    stride: usize,
    times: Vec<usize>,
    timesteps: Vec<f32>,
    /// The noise of the steps before, the latest first.
    history: VecDeque<Tensor<4>>,
    /// What the first step began with.
    first: Option<Tensor<4>>,
}

impl PndmConfig {
    /// For so many steps.
    ///
    /// # Errors
    /// [`AttentionError::Value`] for no steps, more than the times of training, or a model that predicts
    /// images.
    pub fn try_init(&self, steps: usize) -> Result<Pndm, AttentionError> {
        if self.prediction == Prediction::Sample {
            return Err(AttentionError::Value {
                argument: "prediction",
                given: "Sample".into(),
                accepted: "Epsilon, Velocity".into(),
            });
        }
        let mut times = self.spacing.whole(steps, self.noise.times)?;
        if let Some(second) = times.get(1).copied() {
            times.insert(1, second);
        }
        Ok(Pndm {
            config: self.clone(),
            noise: self.noise.init(),
            stride: self.noise.times / steps,
            timesteps: times.iter().map(|time| *time as f32).collect(),
            times,
            history: VecDeque::new(),
            first: None,
        })
    }
}

impl Pndm {
    /// The sample `stride` times after `time`, along this noise: formula (9) of the paper.
    fn transfer(&self, sample: Tensor<4>, time: usize, output: Tensor<4>) -> Tensor<4> {
        let factors = self.noise.factors(time);
        let noise = self
            .config
            .prediction
            .noise(output.clone(), sample.clone(), factors);
        let image = self.config.prediction.image(output, sample, factors);
        let to_one = self.config.set_alpha_to_one;
        let after = self.noise.product_before(time, self.stride, to_one);
        image.mul_scalar(after.sqrt()) + noise.mul_scalar((1.0 - after).sqrt())
    }
}

impl Scheduler for Pndm {
    fn timesteps(&self) -> &[f32] {
        &self.timesteps
    }

    fn step(
        &mut self,
        output: Tensor<4>,
        step: usize,
        sample: Tensor<4>,
        _noise: &mut Noise,
    ) -> Tensor<4> {
        if let (1, Some(first), Some(before)) = (step, self.first.take(), self.history.front()) {
            let mean = (output + before.clone()).div_scalar(2.0);
            return self.transfer(first, self.times[0], mean);
        }
        if step == 0 {
            self.history.clear();
            self.first = Some(sample.clone());
        }
        self.history.truncate(ADAMS_BASHFORTH.len() - 1);
        self.history.push_front(output);
        let weights = ADAMS_BASHFORTH[self.history.len() - 1].iter();
        let terms = self.history.iter().zip(weights);
        let output = terms
            .map(|(output, weight)| output.clone().mul_scalar(*weight))
            .reduce(|sum, term| sum + term)
            .expect("invariant: one was just added");
        self.transfer(sample, self.times[step], output)
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
