//! Rotary positions: pairs of a head's dimensions are rotated by an angle that grows with the
//! position, so that a product of a query and a key depends on their distance
//! (Su et al. 2021, RoFormer, <https://arxiv.org/abs/2104.09864>).

mod hugging_face;
mod scaling;

pub use hugging_face::HuggingFaceRotary;
pub use scaling::RotaryScaling;

use attention_core::AttentionError;
use burn::config::Config;
use burn::tensor::{Device, Slice, Tensor, TensorData};
use serde::{Deserialize, Serialize};

use super::Positions;
use super::elementwise::{is_on_host, rotate_halves};

/// Which two dimensions make a pair.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RotaryPairs {
    /// `i` and `i + rotary_dims / 2`: GPT-NeoX, Llama.
    #[default]
    Halves,
    /// `2 i` and `2 i + 1`: RoFormer, GPT-J.
    Interleaved,
}

/// How a head is rotated.
///
/// ```
/// use attention_models::models::blocks::{Positions, RotaryConfig};
/// use burn::tensor::{Device, Tensor};
///
/// let device = Device::flex();
/// let rotary = RotaryConfig::new(64).with_theta(1e6).init();
/// let table = rotary.table(&Positions::range(3..10), &device);
/// let query = Tensor::<4>::ones([2, 8, 7, 64], &device);
/// assert_eq!(table.rotate(query).dims(), [2, 8, 7, 64]);
/// ```
#[derive(Config, Debug, PartialEq)]
pub struct RotaryConfig {
    /// Width of a head.
    pub head_dim: usize,
    /// How many of its dimensions are rotated, the first ones; all without it.
    #[config(default = "None")]
    pub rotary_dims: Option<usize>,
    /// Pair `i` turns by `theta^(-2 i / rotary_dims)` with each position.
    #[config(default = 10000.0)]
    pub theta: f64,
    /// Which two dimensions make a pair.
    #[config(default = "RotaryPairs::Halves")]
    pub pairs: RotaryPairs,
    /// How the angles are changed for sequences longer than those of training.
    #[config(default = "RotaryScaling::None")]
    pub scaling: RotaryScaling,
}

impl RotaryConfig {
    /// The angles.
    ///
    /// # Panics
    /// Panics with the message of [`try_init`](Self::try_init) where that refuses.
    pub fn init(&self) -> Rotary {
        self.try_init().unwrap_or_else(|error| panic!("{error}"))
    }

    /// As [`init`](Self::init).
    ///
    /// # Errors
    /// [`AttentionError::Value`] for `rotary_dims` that are odd, 0 or more than the head has, and for
    /// a scaling whose lists of factors do not fit them.
    pub fn try_init(&self) -> Result<Rotary, AttentionError> {
        let dims = self.dims();
        if dims == 0 || !dims.is_multiple_of(2) || dims > self.head_dim {
            return Err(AttentionError::Value {
                argument: "rotary_dims",
                given: dims.to_string(),
                accepted: format!(
                    "an even number from 2 to {}, the head's width",
                    self.head_dim
                ),
            });
        }
        self.scaling.validate(dims)?;
        Ok(Rotary {
            config: self.clone(),
        })
    }

    fn dims(&self) -> usize {
        self.rotary_dims.unwrap_or(self.head_dim)
    }
}

/// Rotates queries and keys.
#[derive(Debug, Clone, PartialEq)]
pub struct Rotary {
    config: RotaryConfig,
}

impl Rotary {
    /// How it was made.
    pub fn config(&self) -> &RotaryConfig {
        &self.config
    }

    /// By how much each pair turns with each position, in a sequence of `length` tokens, on which only
    /// some scalings depend.
    pub fn frequencies(&self, length: usize) -> Vec<f64> {
        let config = &self.config;
        config
            .scaling
            .frequencies(config.theta, config.dims(), length)
    }

    /// The factor on cosines and sines.
    pub fn attention_factor(&self) -> f64 {
        self.config.scaling.attention_factor()
    }

    /// Cosines and sines for these positions, the largest of which is the last of the sequence.
    pub fn table(&self, positions: &Positions, device: &Device) -> RotaryTable {
        self.table_for(positions, positions.end(), device)
    }

    /// Cosines and sines for these positions in a sequence of `length` tokens.
    pub fn table_for(&self, positions: &Positions, length: usize, device: &Device) -> RotaryTable {
        let frequencies = self.frequencies(length);
        let factor = self.attention_factor();
        let rows = positions.rows();
        let shape = [rows.len(), 1, positions.length(), frequencies.len()];
        let tensor = |of: fn(f64) -> f64| {
            let angles = rows
                .iter()
                .flatten()
                .flat_map(|&position| frequencies.iter().map(move |turn| position as f64 * turn));
            let values: Vec<f32> = angles.map(|angle| (factor * of(angle)) as f32).collect();
            Tensor::from_data(TensorData::new(values, shape), device)
        };
        RotaryTable {
            cosines: tensor(f64::cos),
            sines: tensor(f64::sin),
            pairs: self.config.pairs,
        }
    }
}

/// Cosines and sines for some positions, which all layers share.
#[derive(Debug, Clone)]
pub struct RotaryTable {
    /// `[batch | 1, 1, seq, rotary_dims / 2]`
    cosines: Tensor<4>,
    /// `[batch | 1, 1, seq, rotary_dims / 2]`
    sines: Tensor<4>,
    pairs: RotaryPairs,
}

impl RotaryTable {
    /// Queries or keys `[batch, heads, seq, head_dim]` turned by their positions.
    pub fn rotate(&self, heads: Tensor<4>) -> Tensor<4> {
        let [batch, count, seq, width] = heads.dims();
        let half = self.cosines.dims()[3];
        let dims = 2 * half;
        if self.pairs == RotaryPairs::Halves && [&heads, &self.cosines].into_iter().all(is_on_host)
        {
            return rotate_halves(heads, &self.cosines, &self.sines);
        }
        let of_pairs = |second: usize| {
            let slice = match self.pairs {
                RotaryPairs::Halves => Slice::from(second * half..(second + 1) * half),
                RotaryPairs::Interleaved => Slice::new(second as isize, Some(dims as isize), 2),
            };
            heads.clone().slice_dim(3, slice)
        };
        let (first, second) = (of_pairs(0), of_pairs(1));
        let cosines = self.cosines.clone().cast(heads.dtype());
        let sines = self.sines.clone().cast(heads.dtype());
        let turned = [
            first.clone() * cosines.clone() - second.clone() * sines.clone(),
            second * cosines + first * sines,
        ];
        let rest = (dims < width).then(|| heads.clone().slice_dim(3, dims..width));
        match self.pairs {
            RotaryPairs::Halves => Tensor::cat(turned.into_iter().chain(rest).collect(), 3),
            RotaryPairs::Interleaved => {
                let turned: Tensor<5> = Tensor::stack(turned.to_vec(), 4);
                let turned = turned.reshape([batch, count, seq, dims]);
                Tensor::cat([turned].into_iter().chain(rest).collect(), 3)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rotation_that_does_not_fit_the_head_is_refused() {
        let refusal = RotaryConfig::new(8).with_rotary_dims(Some(10)).try_init();
        assert_eq!(
            refusal.unwrap_err().to_string(),
            "`rotary_dims` is 10; accepted: an even number from 2 to 8, the head's width"
        );
    }

    #[test]
    fn products_depend_on_the_distance_only() {
        let device = Device::flex();
        let head = Tensor::<4>::from_data([[[[0.3, -1.0, 0.7, 2.0, 0.1, -0.4]]]], &device);
        for pairs in [RotaryPairs::Halves, RotaryPairs::Interleaved] {
            let rotary = RotaryConfig::new(6).with_pairs(pairs);
            let rotary = rotary.with_rotary_dims(Some(4)).init();
            let at = |position: usize| {
                let table = rotary.table(&Positions::range(position..position + 1), &device);
                table.rotate(head.clone())
            };
            let product = |a, b| (at(a) * at(b)).sum().into_scalar::<f32>();
            assert!((product(3, 10) - product(103, 110)).abs() < 1e-5);
            assert!((product(3, 10) - product(3, 11)).abs() > 1e-3);
        }
    }
}
