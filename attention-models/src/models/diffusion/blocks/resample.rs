use burn::module::Module;
use burn::nn::{
    PaddingConfig2d,
    conv::{Conv2d, Conv2dConfig},
};
use burn::tensor::{Device, Tensor, module::avg_pool2d, ops::AvgPoolOptions};

use super::convolution;

/// A convolution of stride 2: half the height, half the width.
#[derive(Module, Debug)]
pub struct Downsample {
    /// 3 x 3
    pub conv: Conv2d,
}

impl Downsample {
    /// Padded on all sides, or only at the bottom and on the right, as autoencoders have it.
    pub fn new(channels: usize, centred: bool, device: &Device) -> Self {
        let before = usize::from(centred);
        Self {
            conv: Conv2dConfig::new([channels, channels], [3, 3])
                .with_stride([2, 2])
                .with_padding(PaddingConfig2d::Explicit(before, before, 1, 1))
                .init(device),
        }
    }

    /// `[batch, channels, height, width] -> [batch, channels, height / 2, width / 2]`
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        self.conv.forward(x)
    }
}

/// Every pixel four times, then a convolution.
#[derive(Module, Debug)]
pub struct Upsample {
    /// 3 x 3
    pub conv: Conv2d,
}

impl Upsample {
    /// With fresh weights.
    pub fn new(channels: usize, device: &Device) -> Self {
        Self {
            conv: convolution([channels, channels], 3, device),
        }
    }

    /// `[batch, channels, height, width] -> [batch, channels, 2 height, 2 width]`
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        self.conv.forward(nearest_twice(x))
    }
}

/// Every pixel as a square of four.
pub fn nearest_twice(x: Tensor<4>) -> Tensor<4> {
    let [batch, channels, height, width] = x.dims();
    x.reshape([batch, channels, height, 1, width, 1])
        .expand([batch, channels, height, 2, width, 2])
        .reshape([batch, channels, 2 * height, 2 * width])
}

/// The mean of every square of four pixels.
pub fn average_pool(x: Tensor<4>) -> Tensor<4> {
    avg_pool2d(x, AvgPoolOptions::new([2, 2]))
}
