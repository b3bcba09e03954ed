//! How noise is taken away, step by step: from pure noise to an image, given what a model predicts
//! at each step.
//!
//! Images `x_t = alpha_t x_0 + sigma_t noise` with `alpha_t^2 + sigma_t^2 = 1` become noisier with the time
//! `t`. A [`Scheduler`] chooses the times of its steps, and says what each step makes of an image
//! and the model's prediction.

mod beta;
mod ddim;
mod ddpm;
mod dpm_solver;
mod euler;
mod file;
mod pndm;
mod prediction;
mod sigmas;
mod spacing;

pub use beta::{BetaSchedule, NoiseSchedule, NoiseScheduleConfig};
pub use ddim::{Ddim, DdimConfig};
pub use ddpm::{Ddpm, DdpmConfig, Variance};
pub use dpm_solver::{DpmSolver, DpmSolverConfig, SolverType};
pub use euler::{Euler, EulerConfig};
pub use pndm::{Pndm, PndmConfig};
pub use prediction::{Clip, Prediction};
pub use sigmas::FinalSigma;
pub use spacing::{Spacing, TimestepSpacing};

use std::fmt::Debug;
use std::path::Path;

use attention_core::AttentionError;
use burn::tensor::Tensor;

use super::Noise;
use crate::models::checkpoint::{CheckpointError, find};

/// The steps from noise to an image. A sampler runs them in order:
///
/// ```
/// use attention_models::models::diffusion::{Noise, schedulers::{DdimConfig, Scheduler}};
/// use burn::tensor::Device;
///
/// let mut scheduler = DdimConfig::new().try_init(10)?;
/// let mut noise = Noise::new(7);
/// let mut sample = noise.normal([1, 4, 8, 8], &Device::flex()).mul_scalar(scheduler.initial_sigma());
/// for step in 0..scheduler.timesteps().len() {
///     let input = scheduler.model_input(sample.clone(), step);
///     let prediction = input; // of a model, at scheduler.timesteps()[step]
///     sample = scheduler.step(prediction, step, sample, &mut noise);
/// }
/// # Ok::<(), attention_models::ops::AttentionError>(())
/// ```
pub trait Scheduler: Debug {
    /// The time that the model is given at each step, the noisiest first.
    fn timesteps(&self) -> &[f32];

    /// What noise of variance 1 is multiplied by to start with.
    fn initial_sigma(&self) -> f64 {
        1.0
    }

    /// What the model is given of `sample`.
    fn model_input(&self, sample: Tensor<4>, _step: usize) -> Tensor<4> {
        sample
    }

    /// The sample after a step, given the model's prediction `output`, both
    /// `[batch, channels, height, width]`. Steps run in order; a scheduler that adds noise draws it
    /// from `noise`.
    fn step(
        &mut self,
        output: Tensor<4>,
        step: usize,
        sample: Tensor<4>,
        noise: &mut Noise,
    ) -> Tensor<4>;

    /// Images `clean` as they are at `timesteps`, one for each of the batch, with this `noise`.
    ///
    /// # Errors
    /// [`AttentionError::Value`] for a time that the scheduler does not have,
    /// [`AttentionError::Shape`] for another number of times than images.
    fn add_noise(
        &self,
        clean: Tensor<4>,
        noise: Tensor<4>,
        timesteps: &[f32],
    ) -> Result<Tensor<4>, AttentionError>;
}

/// Which scheduler, and how it is set up.
#[derive(Debug, Clone, PartialEq)]
pub enum SchedulerConfig {
    /// [`Ddpm`]
    Ddpm(DdpmConfig),
    /// [`Ddim`]
    Ddim(DdimConfig),
    /// [`Euler`]
    Euler(EulerConfig),
    /// [`DpmSolver`]
    DpmSolver(DpmSolverConfig),
    /// [`Pndm`]
    Pndm(PndmConfig),
}

impl SchedulerConfig {
    /// Reads `scheduler_config.json` of a folder, as diffusers writes it.
    ///
    /// # Errors
    /// [`CheckpointError`]: a file that cannot be read, another class, or an option that is not
    /// offered, by its name.
    pub fn load(place: impl AsRef<Path>) -> Result<Self, CheckpointError> {
        file::load(&find(place)?)
    }

    /// The scheduler for so many steps.
    ///
    /// # Errors
    /// [`AttentionError::Value`] for no steps, or more than the model was trained with.
    pub fn try_init(&self, steps: usize) -> Result<Box<dyn Scheduler>, AttentionError> {
        Ok(match self {
            Self::Ddpm(config) => Box::new(config.try_init(steps)?),
            Self::Ddim(config) => Box::new(config.try_init(steps)?),
            Self::Euler(config) => Box::new(config.try_init(steps)?),
            Self::DpmSolver(config) => Box::new(config.try_init(steps)?),
            Self::Pndm(config) => Box::new(config.try_init(steps)?),
        })
    }

    /// The noise at each time of training.
    pub fn noise(&self) -> &NoiseScheduleConfig {
        match self {
            Self::Ddpm(config) => &config.noise,
            Self::Ddim(config) => &config.noise,
            Self::Euler(config) => &config.noise,
            Self::DpmSolver(config) => &config.noise,
            Self::Pndm(config) => &config.noise,
        }
    }
}

/// `signal * a + noise * b` with a pair `(a, b)` for each of the batch.
fn mix(
    signal: Tensor<4>,
    noise: Tensor<4>,
    factors: Vec<(f64, f64)>,
) -> Result<Tensor<4>, AttentionError> {
    let [batch, ..] = signal.dims();
    if factors.len() != batch || noise.dims() != signal.dims() {
        return Err(AttentionError::Shape {
            argument: "noise",
            given: noise.dims().to_vec(),
            accepted: format!("{:?}, and a time for each of {batch} images", signal.dims()),
        });
    }
    let device = signal.device();
    let column = |factor: fn(&(f64, f64)) -> f64| {
        let numbers: Vec<_> = factors.iter().map(|pair| factor(pair) as f32).collect();
        Tensor::<1>::from_data(numbers.as_slice(), &device).reshape([batch, 1, 1, 1])
    };
    Ok(signal * column(|pair| pair.0) + noise * column(|pair| pair.1))
}

/// Refuses a time that a scheduler does not have.
fn unknown_time(given: f32, accepted: String) -> AttentionError {
    AttentionError::Value {
        argument: "timesteps",
        given: given.to_string(),
        accepted,
    }
}
