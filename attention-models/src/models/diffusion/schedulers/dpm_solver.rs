use attention_core::AttentionError;
use burn::config::Config;
use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use super::{
    BetaSchedule, Clip, FinalSigma, NoiseScheduleConfig, Prediction, Scheduler, Spacing,
    TimestepSpacing, euler::levels_at, mix, sigmas,
};
use crate::models::diffusion::Noise;

/// Below this number of steps, the last are of lower order.
const FEW_STEPS: usize = 15;

/// How the second-order term of [`DpmSolver`] is approximated.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SolverType {
    /// By half of the first-order term.
    #[default]
    Midpoint,
    /// By its integral.
    Heun,
}

/// Options of [`DpmSolver`].
#[derive(Config, Debug, PartialEq)]
pub struct DpmSolverConfig {
    /// The noise at each time of training.
    #[config(default = "NoiseScheduleConfig::new()")]
    pub noise: NoiseScheduleConfig,
    /// The times of the steps.
    #[config(default = "Spacing::new(TimestepSpacing::Linspace, 0)")]
    pub spacing: Spacing,
    /// What the model predicts.
    #[config(default = "Prediction::Epsilon")]
    pub prediction: Prediction,
    /// 1 or 2.
    #[config(default = 2)]
    pub order: usize,
    /// The second-order term.
    #[config(default = "SolverType::Midpoint")]
    pub solver: SolverType,
    /// Whether noise levels are laid as by Karras et al.
    #[config(default = false)]
    pub karras: bool,
    /// The noise after the last step.
    #[config(default = "FinalSigma::Zero")]
    pub final_sigma: FinalSigma,
    /// What is done to large values.
    #[config(default = "Clip::None")]
    pub clip: Clip,
    /// Whether the last of few steps is of first order.
    #[config(default = true)]
    pub lower_order_final: bool,
    /// Whether the last step is of first order, however many there are.
    #[config(default = false)]
    pub euler_at_final: bool,
    /// The smallest `ln(alpha / sigma)` at which a step may begin.
    #[config(default = "f64::NEG_INFINITY")]
    pub smallest_lambda: f64,
}

/// DPM-Solver++: steps along the probability flow that are exact but for the change of the predicted
/// image, of which the second order extrapolates from the step before (Lu et al. 2022,
/// <https://arxiv.org/abs/2211.01095>).
#[derive(Debug, Clone)]
pub struct DpmSolver {
    config: DpmSolverConfig,
    sigmas: Vec<f64>,
    timesteps: Vec<f32>,
    /// The image predicted at the step before.
    before: Option<Tensor<4>>,
}

impl DpmSolverConfig {
    /// For so many steps.
    ///
    /// # Errors
    /// [`AttentionError::Value`] for no steps, more than the times of training, or an order other
    /// than 1 and 2.
    pub fn try_init(&self, steps: usize) -> Result<DpmSolver, AttentionError> {
        if !(1..=2).contains(&self.order) {
            return Err(AttentionError::Value {
                argument: "order",
                given: self.order.to_string(),
                accepted: "1 or 2".into(),
            });
        }
        let trained = sigmas::trained(&self.noise.init().alphas_cumprod);
        let (times, mut levels) = if self.karras {
            self.spacing.exact(steps, self.noise.times)?;
            self.karras_levels(&trained, steps)
        } else {
            let allowed = trained.partition_point(|sigma| -sigma.ln() >= self.smallest_lambda);
            let last = allowed.max(1);
            let times = self.spacing.multistep(steps, last, self.noise.times)?;
            let levels = times.iter().map(|time| trained[*time]).collect();
            (times.iter().map(|time| *time as f32).collect(), levels)
        };
        levels.push(self.final_sigma.of(&trained));
        Ok(DpmSolver {
            config: self.clone(),
            sigmas: levels,
            timesteps: times,
            before: None,
        })
    }

    fn karras_levels(&self, trained: &[f64], steps: usize) -> (Vec<f32>, Vec<f64>) {
        let levels = sigmas::karras(trained[trained.len() - 1], trained[0], steps);
        let time = |level: &f64| {
            let time = sigmas::time_of(trained, *level);
            match self.noise.beta_schedule {
                BetaSchedule::SquaredCosine => time.trunc() as f32,
                _ => time.round_ties_even() as f32,
            }
        };
        (levels.iter().map(time).collect(), levels)
    }
}

impl DpmSolver {
    /// The noise level before each step, and after the last.
    pub fn sigmas(&self) -> &[f64] {
        &self.sigmas
    }

    /// Whether a step uses the image predicted at the step before.
    fn is_second_order(&self, step: usize) -> bool {
        let last = step + 1 == self.timesteps.len();
        let few = self.config.lower_order_final && self.timesteps.len() < FEW_STEPS;
        let to_zero = self.config.final_sigma == FinalSigma::Zero;
        let lower = last && (self.config.euler_at_final || few || to_zero);
        self.config.order == 2 && step > 0 && !lower
    }

    /// `ln(alpha / sigma)`
    fn lambda(&self, step: usize) -> f64 {
        -self.sigmas[step].ln()
    }
}

impl Scheduler for DpmSolver {
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
        let (now, next) = (
            sigmas::factors(self.sigmas[step]),
            sigmas::factors(self.sigmas[step + 1]),
        );
        let image = self.config.prediction.image(output, sample.clone(), now);
        let image = self.config.clip.apply(image);
        let before = self.before.replace(image.clone());

        // exp(-h) - 1 with h the growth of lambda; -1 on the way to no noise.
        let growth = self.lambda(step + 1) - self.lambda(step);
        let decay = (-growth).exp_m1();
        let first = sample.mul_scalar(next.1 / now.1) - image.clone().mul_scalar(next.0 * decay);
        let (true, Some(before)) = (self.is_second_order(step), before) else {
            return first;
        };
        let ratio = (self.lambda(step) - self.lambda(step - 1)) / growth;
        let slope = (image - before).div_scalar(ratio);
        let factor = match self.config.solver {
            SolverType::Midpoint => -0.5 * next.0 * decay,
            SolverType::Heun => next.0 * (decay / growth + 1.0),
        };
        first + slope.mul_scalar(factor)
    }

    fn add_noise(
        &self,
        clean: Tensor<4>,
        noise: Tensor<4>,
        timesteps: &[f32],
    ) -> Result<Tensor<4>, AttentionError> {
        let levels = levels_at(&self.timesteps, &self.sigmas, timesteps)?;
        mix(
            clean,
            noise,
            levels.into_iter().map(sigmas::factors).collect(),
        )
    }
}
