use burn::module::Module;
use burn::nn::{Linear, LinearConfig};
use burn::tensor::{Device, Tensor, activation::silu};
use serde::{Deserialize, Serialize};

/// Sines and cosines of a time at geometrically spaced frequencies, as positions have them in
/// "Attention Is All You Need".
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct TimeProjection {
    /// Cosines before sines.
    pub cosine_first: bool,
    /// Subtracted from the number of frequencies: with 1, the last frequency is exactly 1/10000.
    pub frequency_shift: f64,
}

impl TimeProjection {
    /// `times [batch]` as `[batch, width]`, an odd width padded with a zero.
    pub fn forward(&self, times: Tensor<1>, width: usize) -> Tensor<2> {
        let device = times.device();
        let half = width / 2;
        let step = -(10000f64.ln()) / (half as f64 - self.frequency_shift);
        let frequencies = (0..half).map(|i| (step * i as f64).exp() as f32);
        let frequencies = frequencies.collect::<Vec<_>>();
        let frequencies = Tensor::<1>::from_data(frequencies.as_slice(), &device);

        let angles = times.unsqueeze_dim::<2>(1) * frequencies.unsqueeze_dim::<2>(0);
        let (sine, cosine) = (angles.clone().sin(), angles.cos());
        let batch = sine.dims()[0];
        let mut parts = if self.cosine_first {
            vec![cosine, sine]
        } else {
            vec![sine, cosine]
        };
        if !width.is_multiple_of(2) {
            parts.push(Tensor::zeros([batch, 1], &device));
        }
        Tensor::cat(parts, 1)
    }
}

/// Two linear layers on a projected time.
#[derive(Module, Debug)]
pub struct TimestepEmbedding {
    /// `projection -> width`
    pub linear_1: Linear,
    /// `width -> width`
    pub linear_2: Linear,
}

impl TimestepEmbedding {
    /// From a projection of so many numbers to an embedding of so many.
    pub fn new(projection: usize, width: usize, device: &Device) -> Self {
        Self {
            linear_1: LinearConfig::new(projection, width).init(device),
            linear_2: LinearConfig::new(width, width).init(device),
        }
    }

    /// `[batch, projection] -> [batch, width]`
    pub fn forward(&self, projected: Tensor<2>) -> Tensor<2> {
        let dtype = self.linear_1.weight.dtype();
        self.linear_2
            .forward(silu(self.linear_1.forward(projected.cast(dtype))))
    }
}
