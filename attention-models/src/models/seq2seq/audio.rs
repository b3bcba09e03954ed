use burn::module::Module;
use burn::nn::PaddingConfig1d;
use burn::nn::conv::{Conv1d, Conv1dConfig};
use burn::tensor::{Device, Tensor};

use crate::models::blocks::gelu;

/// Whisper's way from a spectrum to tokens: two convolutions, the second of which halves the length.
#[derive(Module, Debug)]
pub struct AudioFrontEnd {
    /// `channels -> hidden_size`, 3 frames wide.
    pub conv1: Conv1d,
    /// `hidden_size -> hidden_size`, 3 frames wide, every second frame.
    pub conv2: Conv1d,
}

impl AudioFrontEnd {
    pub(super) fn new(channels: usize, width: usize, device: &Device) -> Self {
        let conv = |from, stride| {
            Conv1dConfig::new(from, width, 3)
                .with_stride(stride)
                .with_padding(PaddingConfig1d::Explicit(1, 1))
                .init(device)
        };
        Self {
            conv1: conv(channels, 1),
            conv2: conv(width, 2),
        }
    }

    /// `[batch, channels, frames]` to `[batch, frames / 2, hidden_size]`, rounded up.
    pub fn forward(&self, features: Tensor<3>) -> Tensor<3> {
        let features = features.cast(self.conv1.weight.dtype());
        let features = gelu(self.conv1.forward(features));
        gelu(self.conv2.forward(features)).swap_dims(1, 2)
    }
}
