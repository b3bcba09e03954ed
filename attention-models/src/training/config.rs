use burn::config::Config;
use burn::grad_clipping::GradientClippingConfig;
use burn::lr_scheduler::{
    LrSchedulerConfig, cosine::CosineAnnealingLrSchedulerConfig, linear::LinearLrSchedulerConfig,
    module_lr_scheduler::ModuleLrScheduler, sequential::SequentialLrSchedulerConfig,
};
use burn::optim::{AdamWConfig, ModuleOptimizer};
use burn::tensor::FloatDType;

use super::TrainingError;

/// How long and how fast: AdamW (Loshchilov & Hutter 2019, <https://arxiv.org/abs/1711.05101>) under
/// a rate that rises linearly, then falls along a cosine (<https://arxiv.org/abs/1608.03983>).
#[derive(Config, Debug, PartialEq)]
pub struct TrainingConfig {
    /// Batches that are learned from.
    pub steps: usize,
    /// Of these, steps during which the learning rate rises.
    #[config(default = 0)]
    pub warmup: usize,
    /// The highest learning rate, above 0 and at most 1.
    #[config(default = 1e-3)]
    pub learning_rate: f64,
    /// The part of the highest learning rate that is left at the end.
    #[config(default = 0.02)]
    pub final_rate: f64,
    /// AdamW's decay.
    #[config(default = 0.05)]
    pub weight_decay: f32,
    /// How slowly AdamW forgets squared gradients.
    #[config(default = 0.99)]
    pub beta_2: f32,
    /// The largest norm of a parameter's gradient.
    #[config(default = 1.0)]
    pub gradient_norm: f32,
    /// The type in which the model computes; parameters and moments are kept in f32.
    #[config(default = "FloatDType::F32")]
    pub dtype: FloatDType,
    /// Everything random follows from it.
    #[config(default = 42)]
    pub seed: u64,
    /// Steps between two evaluations.
    #[config(default = 500)]
    pub evaluate_every: usize,
    /// Steps between two checkpoints: what a kill costs in time.
    #[config(default = 100)]
    pub checkpoint_every: usize,
}

impl TrainingConfig {
    pub(super) fn validate(&self) -> Result<(), TrainingError> {
        let refuse = |argument, given: String, accepted: &str| {
            Err(TrainingError::Config {
                argument,
                given,
                accepted: accepted.into(),
            })
        };
        for (argument, given) in [
            ("steps", self.steps),
            ("evaluate_every", self.evaluate_every),
            ("checkpoint_every", self.checkpoint_every),
        ] {
            if given == 0 {
                return refuse(argument, given.to_string(), "at least 1");
            }
        }
        if self.warmup >= self.steps {
            return refuse("warmup", self.warmup.to_string(), "less than `steps`");
        }
        if !(self.learning_rate > 0.0 && self.learning_rate <= 1.0) {
            let given = self.learning_rate.to_string();
            return refuse("learning_rate", given, "above 0, at most 1");
        }
        if !(0.0..=1.0).contains(&self.final_rate) {
            return refuse("final_rate", self.final_rate.to_string(), "from 0 to 1");
        }
        // Small gradients vanish in f16.
        if !matches!(self.dtype, FloatDType::F32 | FloatDType::BF16) {
            return refuse("dtype", format!("{:?}", self.dtype), "F32, BF16");
        }
        Ok(())
    }

    pub(super) fn optimizer(&self) -> ModuleOptimizer {
        AdamWConfig::new()
            .with_beta_2(self.beta_2)
            .with_epsilon(1e-8)
            .with_weight_decay(self.weight_decay)
            .with_grad_clipping(Some(GradientClippingConfig::Norm(self.gradient_norm)))
            .init()
    }

    pub(super) fn schedule(&self) -> ModuleLrScheduler {
        let highest = self.learning_rate;
        let fall = CosineAnnealingLrSchedulerConfig::new(highest, self.steps - self.warmup)
            .with_min_lr(highest * self.final_rate);
        let schedule = if self.warmup == 0 {
            fall.init()
        } else {
            let first = highest / self.warmup as f64;
            let rise = LinearLrSchedulerConfig::new(first, highest, self.warmup);
            let parts = vec![
                LrSchedulerConfig::Linear(rise),
                LrSchedulerConfig::Cosine(fall),
            ];
            SequentialLrSchedulerConfig::new(parts, vec![self.warmup]).init()
        };
        schedule.expect("invariant: the configuration was validated")
    }
}
