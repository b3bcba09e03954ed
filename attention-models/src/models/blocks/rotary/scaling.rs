use std::f64::consts::TAU;

use attention_core::AttentionError;
use serde::{Deserialize, Serialize};

/// How rotations are changed for sequences longer than those of training, as transformers' `rope_type`
/// has them.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RotaryScaling {
    /// Not at all (`default`).
    #[default]
    None,
    /// Positions are divided by `factor` (Chen et al. 2023, <https://arxiv.org/abs/2306.15595>).
    Linear {
        /// How much longer sequences may be.
        factor: f64,
    },
    /// `theta` grows with the length once it exceeds that of training (NTK-aware scaling).
    Dynamic {
        /// How much longer sequences may be.
        factor: f64,
        /// The length of training.
        trained_length: usize,
    },
    /// Slow pairs are interpolated, fast ones are not, scores are sharpened (Peng et al. 2023,
    /// <https://arxiv.org/abs/2309.00071>).
    Yarn {
        /// How much longer sequences may be.
        factor: f64,
        /// The length of training.
        trained_length: usize,
        /// Pairs that turn more often than this within `trained_length` are left as they are.
        beta_fast: f64,
        /// Pairs that turn less often than this are interpolated.
        beta_slow: f64,
        /// Whether the ramp between the two begins and ends at whole pairs.
        truncate: bool,
        /// The factor on cosines and sines.
        attention_factor: f64,
    },
    /// Every pair has factors of its own, for short and for long sequences (Ding et al. 2024,
    /// <https://arxiv.org/abs/2402.13753>).
    LongRope {
        /// The length of training, up to which `short_factor` holds.
        trained_length: usize,
        /// For each pair.
        short_factor: Vec<f64>,
        /// For each pair.
        long_factor: Vec<f64>,
        /// The factor on cosines and sines.
        attention_factor: f64,
    },
    /// Slow pairs are interpolated, with a smooth transition (Llama 3.1,
    /// <https://arxiv.org/abs/2407.21783>).
    Llama3 {
        /// How much longer sequences may be.
        factor: f64,
        /// The length of training.
        trained_length: usize,
        /// Pairs that turn less often than this within `trained_length` are interpolated.
        low_frequency: f64,
        /// Pairs that turn more often than this are left as they are.
        high_frequency: f64,
    },
    /// The slowest pairs do not turn at all (`proportional`, Gemma 4).
    Proportional {
        /// Positions are divided by it.
        factor: f64,
        /// How many of the pairs turn.
        turning_pairs: usize,
    },
}

impl RotaryScaling {
    pub(super) fn validate(&self, dims: usize) -> Result<(), AttentionError> {
        let Self::LongRope {
            short_factor,
            long_factor,
            ..
        } = self
        else {
            return Ok(());
        };
        for (argument, factors) in [("short_factor", short_factor), ("long_factor", long_factor)] {
            if factors.len() != dims / 2 {
                return Err(AttentionError::Value {
                    argument,
                    given: format!("a list of {}", factors.len()),
                    accepted: format!("{} factors, one for each pair", dims / 2),
                });
            }
        }
        Ok(())
    }

    /// By how much each of `dims / 2` pairs turns with each position of a sequence of `length`.
    pub(super) fn frequencies(&self, theta: f64, dims: usize, length: usize) -> Vec<f64> {
        let plain = |theta: f64| {
            (0..dims / 2).map(move |pair| theta.powf(-((2 * pair) as f64) / dims as f64))
        };
        match self {
            Self::None => plain(theta).collect(),
            Self::Linear { factor } => plain(theta).map(|turn| turn / factor).collect(),
            Self::Dynamic {
                factor,
                trained_length,
            } => {
                let longer = length.max(*trained_length) as f64 / *trained_length as f64;
                let exponent = dims as f64 / (dims as f64 - 2.0);
                plain(theta * (factor * longer - (factor - 1.0)).powf(exponent)).collect()
            }
            Self::Yarn { factor, .. } => {
                let kept = self.yarn_kept(theta, dims);
                let turns = plain(theta).zip(kept);
                turns
                    .map(|(turn, kept)| turn * (kept + (1.0 - kept) / factor))
                    .collect()
            }
            Self::LongRope {
                trained_length,
                short_factor,
                long_factor,
                ..
            } => {
                let factors = if length > *trained_length {
                    long_factor
                } else {
                    short_factor
                };
                plain(theta)
                    .zip(factors)
                    .map(|(turn, factor)| turn / factor)
                    .collect()
            }
            Self::Llama3 {
                factor,
                trained_length,
                low_frequency,
                high_frequency,
            } => {
                let kept = |turn: f64| {
                    let turns = *trained_length as f64 * turn / TAU;
                    ((turns - low_frequency) / (high_frequency - low_frequency)).clamp(0.0, 1.0)
                };
                let scaled = |turn: f64| (1.0 - kept(turn)) * turn / factor + kept(turn) * turn;
                plain(theta).map(scaled).collect()
            }
            Self::Proportional {
                factor,
                turning_pairs,
            } => {
                let turns = plain(theta).enumerate();
                turns
                    .map(|(pair, turn)| {
                        if pair < *turning_pairs {
                            turn / factor
                        } else {
                            0.0
                        }
                    })
                    .collect()
            }
        }
    }

    /// How much of each pair's frequency YaRN keeps, from 0 to 1.
    fn yarn_kept(&self, theta: f64, dims: usize) -> Vec<f64> {
        let Self::Yarn {
            trained_length,
            beta_fast,
            beta_slow,
            truncate,
            ..
        } = self
        else {
            return Vec::new();
        };
        // The pair that turns so many times within the length of training.
        let pair_of = |turns: f64| {
            dims as f64 * (*trained_length as f64 / (turns * TAU)).ln() / (2.0 * theta.ln())
        };
        let (mut first, mut last) = (pair_of(*beta_fast), pair_of(*beta_slow));
        if *truncate {
            (first, last) = (first.floor(), last.ceil());
        }
        first = first.max(0.0);
        last = last.min(dims as f64 - 1.0);
        if first == last {
            last += 0.001;
        }
        let interpolated = |pair: usize| ((pair as f64 - first) / (last - first)).clamp(0.0, 1.0);
        (0..dims / 2).map(|pair| 1.0 - interpolated(pair)).collect()
    }

    /// The factor on cosines and sines.
    pub(super) fn attention_factor(&self) -> f64 {
        match self {
            Self::Yarn {
                attention_factor, ..
            }
            | Self::LongRope {
                attention_factor, ..
            } => *attention_factor,
            _ => 1.0,
        }
    }
}
