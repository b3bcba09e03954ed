use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

/// What a model predicts of `x_t = alpha x_0 + sigma noise`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Prediction {
    /// The noise.
    #[default]
    #[serde(rename = "epsilon")]
    Epsilon,
    /// `alpha noise - sigma x_0` (Salimans & Ho 2022, <https://arxiv.org/abs/2202.00512>).
    #[serde(rename = "v_prediction")]
    Velocity,
    /// The image `x_0`.
    #[serde(rename = "sample")]
    Sample,
}

impl Prediction {
    /// The image `x_0` that a prediction means.
    pub fn image(
        self,
        output: Tensor<4>,
        sample: Tensor<4>,
        (alpha, sigma): (f64, f64),
    ) -> Tensor<4> {
        match self {
            Self::Epsilon => (sample - output.mul_scalar(sigma)).div_scalar(alpha),
            Self::Velocity => sample.mul_scalar(alpha) - output.mul_scalar(sigma),
            Self::Sample => output,
        }
    }

    /// The noise that a prediction means.
    pub fn noise(
        self,
        output: Tensor<4>,
        sample: Tensor<4>,
        (alpha, sigma): (f64, f64),
    ) -> Tensor<4> {
        match self {
            Self::Epsilon => output,
            Self::Velocity => output.mul_scalar(alpha) + sample.mul_scalar(sigma),
            Self::Sample => (sample - output.mul_scalar(alpha)).div_scalar(sigma),
        }
    }
}

/// What is done to a predicted image whose values are too large.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub enum Clip {
    /// Nothing, as for latents.
    #[default]
    None,
    /// Values are cut at this magnitude.
    At(f64),
    /// Values are cut at a quantile of each image's magnitudes, from 1 to `largest`, and divided by
    /// it (Saharia et al. 2022, <https://arxiv.org/abs/2205.11487>).
    Dynamic {
        /// The quantile, from 0 to 1.
        quantile: f64,
        /// The largest magnitude that it may have.
        largest: f64,
    },
}

impl Clip {
    /// `[batch, channels, height, width]` to the same.
    pub fn apply(self, image: Tensor<4>) -> Tensor<4> {
        match self {
            Self::None => image,
            Self::At(range) => image.clamp(-range, range),
            Self::Dynamic { quantile, largest } => {
                let range = magnitude(image.clone(), quantile).clamp(1.0, largest);
                let range = range.expand(image.dims());
                image.min_pair(range.clone()).max_pair(-range.clone()) / range
            }
        }
    }
}

/// A quantile of each image's magnitudes, `[batch, 1, 1, 1]`, in between two values where it falls
/// there.
fn magnitude(image: Tensor<4>, quantile: f64) -> Tensor<4> {
    let [batch, channels, height, width] = image.dims();
    let count = channels * height * width;
    let sorted = image.abs().reshape([batch, count]).sort(1);
    let place = quantile.clamp(0.0, 1.0) * (count - 1) as f64;
    let at = |index: usize| {
        let index = index.min(count - 1);
        sorted.clone().slice_dim(1, index..index + 1)
    };
    let (low, high) = (at(place as usize), at(place as usize + 1));
    let value = low.clone() + (high - low).mul_scalar(place.fract());
    value.reshape([batch, 1, 1, 1])
}
