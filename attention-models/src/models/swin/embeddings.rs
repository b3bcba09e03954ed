use attention_core::AttentionError;
use burn::module::{Initializer, Module, Param};
use burn::nn::{LayerNorm, LayerNormConfig, Linear, LinearConfig};
use burn::tensor::{Device, Tensor, ops::PadMode};

use super::SwinConfig;
use crate::models::resample::{Bicubic, resize_grid};

/// From pixels to tokens: patch projection, norm, and positions where they are learned.
#[derive(Module, Debug)]
pub struct SwinEmbeddings {
    /// `channels * patch_size^2 -> embed_dim`; a patch is flattened channel by channel, row by row.
    pub projection: Linear,
    /// On each token.
    pub norm: LayerNorm,
    /// `[1, grid^2, embed_dim]`
    pub positions: Option<Param<Tensor<3>>>,
    channels: usize,
    patch_size: usize,
    trained_grid: usize,
}

impl SwinEmbeddings {
    pub(super) fn new(config: &SwinConfig, device: &Device) -> Self {
        let width = config.embed_dim;
        let trained_grid = config.trained_grid(0);
        let positions = || {
            let normal = Initializer::Normal {
                mean: 0.0,
                std: 0.02,
            };
            normal.init([1, trained_grid.pow(2), width], device)
        };
        Self {
            projection: LinearConfig::new(config.channels * config.patch_size.pow(2), width)
                .init(device),
            norm: LayerNormConfig::new(width)
                .with_epsilon(config.norm_epsilon)
                .init(device),
            positions: config.absolute_positions.then(positions),
            channels: config.channels,
            patch_size: config.patch_size,
            trained_grid,
        }
    }

    /// `[batch, channels, height, width] -> [batch, rows, columns, embed_dim]`; black pixels fill
    /// up the last patches.
    ///
    /// # Errors
    ///
    /// [`AttentionError::Shape`] for no images, no pixels, or another number of channels.
    pub fn forward(&self, pixel_values: Tensor<4>) -> Result<Tensor<4>, AttentionError> {
        let [batch, channels, height, width] = pixel_values.dims();
        if batch * height * width == 0 || channels != self.channels {
            return Err(AttentionError::Shape {
                argument: "pixel_values",
                given: pixel_values.dims().to_vec(),
                accepted: format!(
                    "[batch, {}, height, width] with no side of 0",
                    self.channels
                ),
            });
        }
        let pixel_values = pixel_values.cast(self.projection.weight.dtype());
        let side = self.patch_size;
        let (rows, columns) = (height.div_ceil(side), width.div_ceil(side));
        let (below, right) = (rows * side - height, columns * side - width);
        let pixels = if below + right > 0 {
            let padding = [(0, 0), (0, 0), (0, below), (0, right)];
            pixel_values.pad(padding, PadMode::Constant(0.0))
        } else {
            pixel_values
        };
        let patches = pixels
            .reshape([batch, channels, rows, side, columns, side])
            .permute([0, 2, 4, 1, 3, 5])
            .reshape([batch, rows, columns, channels * side * side]);
        let tokens = self.norm.forward(self.projection.forward(patches));
        Ok(match &self.positions {
            Some(positions) => tokens + self.fitted(positions.val(), [rows, columns]),
            None => tokens,
        })
    }

    fn fitted(&self, positions: Tensor<3>, grid: [usize; 2]) -> Tensor<4> {
        let [_, _, width] = positions.dims();
        let trained = self.trained_grid;
        let positions = positions.reshape([trained, trained, width]);
        let positions = if grid == [trained; 2] {
            positions
        } else {
            resize_grid(positions, grid, Bicubic::Plain)
        };
        positions.unsqueeze_dim(0)
    }
}
