use burn::module::Module;
use burn::nn::{GroupNorm, Linear, LinearConfig, conv::Conv2d};
use burn::tensor::{Device, Tensor};

use super::{Norm, convolution};
use crate::models::blocks::{convolve, group_norm, silu};

/// A residual block of two convolutions; between them, the time is added to every pixel.
#[derive(Module, Debug)]
pub struct ResnetBlock {
    /// Before the first convolution.
    pub norm1: GroupNorm,
    /// `inputs -> outputs`
    pub conv1: Conv2d,
    /// `time -> outputs`; an autoencoder knows no time.
    pub time_emb_proj: Option<Linear>,
    /// Before the second convolution.
    pub norm2: GroupNorm,
    /// `outputs -> outputs`
    pub conv2: Conv2d,
    /// On the residual path, where the number of channels changes.
    pub conv_shortcut: Option<Conv2d>,
}

/// The sizes of a [`ResnetBlock`].
#[derive(Debug, Clone, Copy)]
pub struct ResnetBlockConfig {
    /// Channels of the input.
    pub inputs: usize,
    /// Channels of the output.
    pub outputs: usize,
    /// Width of the time embedding.
    pub time: Option<usize>,
    /// Both norms.
    pub norm: Norm,
}

impl ResnetBlockConfig {
    /// A block with fresh weights.
    pub fn init(&self, device: &Device) -> ResnetBlock {
        let Self {
            inputs, outputs, ..
        } = *self;
        let shortcut = || convolution([inputs, outputs], 1, device);
        ResnetBlock {
            norm1: self.norm.init(inputs, device),
            conv1: convolution([inputs, outputs], 3, device),
            time_emb_proj: self
                .time
                .map(|time| LinearConfig::new(time, outputs).init(device)),
            norm2: self.norm.init(outputs, device),
            conv2: convolution([outputs, outputs], 3, device),
            conv_shortcut: (inputs != outputs).then(shortcut),
        }
    }
}

impl ResnetBlock {
    /// `[batch, inputs, height, width] -> [batch, outputs, height, width]`, with a time
    /// `[batch, time]` that has passed a SiLU.
    pub fn forward(&self, x: Tensor<4>, time: Option<&Tensor<2>>) -> Tensor<4> {
        let hidden = convolve(&self.conv1, silu(group_norm(&self.norm1, x.clone())));
        let hidden = match (&self.time_emb_proj, time) {
            (Some(project), Some(time)) => {
                let time = project.forward(time.clone());
                let [batch, channels] = time.dims();
                hidden + time.reshape([batch, channels, 1, 1])
            }
            _ => hidden,
        };
        let hidden = convolve(&self.conv2, silu(group_norm(&self.norm2, hidden)));
        let shortcut = match &self.conv_shortcut {
            Some(shortcut) => shortcut.forward(x),
            None => x,
        };
        shortcut + hidden
    }
}
