//! Noise levels `sigma / alpha` in place of times (Karras et al. 2022,
//! <https://arxiv.org/abs/2206.00364>).

use serde::{Deserialize, Serialize};

/// The exponent of Karras' noise levels.
const RHO: f64 = 7.0;
/// What stands for a signal of 0, which would be an infinite noise level.
const SMALLEST_SIGNAL: f64 = 1.0 / (1u32 << 24) as f64;

/// The noise that is left after the last step.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FinalSigma {
    /// None.
    #[default]
    Zero,
    /// That of the first time of training.
    SigmaMin,
}

impl FinalSigma {
    pub(super) fn of(self, trained: &[f64]) -> f64 {
        match self {
            Self::Zero => 0.0,
            Self::SigmaMin => trained[0],
        }
    }
}

/// The noise levels of training; a signal of 0 at the last time counts as a very small one.
pub(super) fn trained(alphas_cumprod: &[f64]) -> Vec<f64> {
    let sigma = |alpha: &f64| {
        let alpha = if *alpha == 0.0 {
            SMALLEST_SIGNAL
        } else {
            *alpha
        };
        ((1.0 - alpha) / alpha).sqrt()
    };
    alphas_cumprod.iter().map(sigma).collect()
}

/// `(alpha, sigma)` of a noise level `sigma / alpha`.
pub(super) fn factors(level: f64) -> (f64, f64) {
    let alpha = 1.0 / (level.powi(2) + 1.0).sqrt();
    (alpha, level * alpha)
}

/// The noise level at a time that may lie between two of training.
pub(super) fn at_time(trained: &[f64], time: f64) -> f64 {
    let below = (time as usize).min(trained.len() - 1);
    let above = (below + 1).min(trained.len() - 1);
    trained[below] + (trained[above] - trained[below]) * (time - below as f64)
}

/// The time of a noise level, interpolated in its logarithm.
pub(super) fn time_of(trained: &[f64], level: f64) -> f64 {
    let log = level.max(1e-10).ln();
    let reached = trained.partition_point(|sigma| sigma.ln() <= log);
    let below = reached.saturating_sub(1).min(trained.len().max(2) - 2);
    let (low, high) = (trained[below].ln(), trained[below + 1].ln());
    let share = ((low - log) / (low - high)).clamp(0.0, 1.0);
    below as f64 + share
}

/// So many noise levels from `largest` to `smallest`, close where they are small.
pub(super) fn karras(largest: f64, smallest: f64, steps: usize) -> Vec<f64> {
    let root = |sigma: f64| sigma.powf(1.0 / RHO);
    let level = |step: usize| {
        let share = step as f64 / (steps.max(2) - 1) as f64;
        (root(largest) + share * (root(smallest) - root(largest))).powf(RHO)
    };
    (0..steps).map(level).collect()
}
