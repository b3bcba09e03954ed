use attention_core::AttentionError;
use burn::module::{Initializer, Module, Param};
use burn::nn::{Linear, LinearConfig};
use burn::tensor::{Device, Tensor};

use super::{RelativePositions, VisionTransformerConfig};
use crate::models::resample::{Bicubic, resize_grid};

/// From pixels to tokens: patch projection, learned tokens in front, learned positions.
#[derive(Module, Debug)]
pub struct Embeddings {
    /// `channels * patch_size^2 -> hidden_size`; a patch is flattened channel by channel, row by
    /// row.
    pub projection: Linear,
    /// `[1, 1, hidden_size]`
    pub class_token: Param<Tensor<3>>,
    /// `[1, 1, hidden_size]`
    pub distillation_token: Option<Param<Tensor<3>>>,
    /// `[1, register_tokens, hidden_size]`
    pub register_tokens: Option<Param<Tensor<3>>>,
    /// `[1, prefix + grid^2, hidden_size]`
    pub positions: Option<Param<Tensor<3>>>,
    channels: usize,
    patch_size: usize,
    trained_grid: usize,
    fixed_grid: bool,
    register_positions: bool,
    #[module(skip)]
    position_filter: Bicubic,
}

impl Embeddings {
    pub(super) fn new(config: &VisionTransformerConfig, device: &Device) -> Self {
        let width = config.hidden_size;
        let token = |count: usize| {
            let normal = Initializer::Normal {
                mean: 0.0,
                std: 0.02,
            };
            normal.init([1, count, width], device)
        };
        let pixels = config.channels * config.patch_size.pow(2);
        Self {
            projection: LinearConfig::new(pixels, width)
                .with_bias(config.patch_bias)
                .init(device),
            class_token: token(1),
            distillation_token: config.distillation_token.then(|| token(1)),
            register_tokens: (config.register_tokens > 0).then(|| token(config.register_tokens)),
            positions: config
                .absolute_positions
                .then(|| token(config.prefix_positions() + config.trained_grid().pow(2))),
            channels: config.channels,
            patch_size: config.patch_size,
            trained_grid: config.trained_grid(),
            fixed_grid: config.relative_positions != RelativePositions::None,
            register_positions: config.register_positions,
            position_filter: config.position_filter,
        }
    }

    /// The patches `[rows, columns]` of an image batch, or why it does not fit.
    pub fn grid(&self, pixel_values: &Tensor<4>) -> Result<[usize; 2], AttentionError> {
        let [batch, channels, height, width] = pixel_values.dims();
        let side = self.patch_size;
        let fits = |length: usize| length > 0 && length.is_multiple_of(side);
        if batch == 0 || channels != self.channels || !fits(height) || !fits(width) {
            return Err(AttentionError::Shape {
                argument: "pixel_values",
                given: pixel_values.dims().to_vec(),
                accepted: format!(
                    "[batch, {}, height, width] with height and width multiples of {side}",
                    self.channels
                ),
            });
        }
        let grid = [height / side, width / side];
        if self.fixed_grid && grid != [self.trained_grid; 2] {
            let trained = self.trained_grid * side;
            return Err(AttentionError::Shape {
                argument: "pixel_values",
                given: pixel_values.dims().to_vec(),
                accepted: format!(
                    "[batch, {}, {trained}, {trained}], for which relative positions were learned",
                    self.channels
                ),
            });
        }
        Ok(grid)
    }

    /// `[batch, channels, height, width] -> [batch, tokens, hidden_size]`
    pub fn forward(&self, pixel_values: Tensor<4>) -> Result<Tensor<3>, AttentionError> {
        let grid = self.grid(&pixel_values)?;
        let batch = pixel_values.dims()[0];
        let pixel_values = pixel_values.cast(self.projection.weight.dtype());
        let patches = self.projection.forward(self.patches(pixel_values, grid));
        let in_front = |token: &Param<Tensor<3>>| {
            let [_, count, width] = token.dims();
            token.val().expand([batch, count, width])
        };

        let mut tokens = vec![in_front(&self.class_token)];
        tokens.extend(self.distillation_token.as_ref().map(in_front));
        let registers = self.register_tokens.as_ref().map(in_front);
        if self.register_positions {
            tokens.extend(registers.clone());
        }
        let prefix = tokens.iter().map(|token| token.dims()[1]).sum();
        tokens.push(patches);
        let tokens = Tensor::cat(tokens, 1);
        let tokens = match &self.positions {
            Some(positions) => tokens + self.fitted(positions.val(), grid, prefix),
            None => tokens,
        };
        Ok(match registers {
            Some(registers) if !self.register_positions => {
                let front = tokens.clone().slice_dim(1, 0..prefix);
                let patches = tokens.slice_dim(1, prefix..);
                Tensor::cat(vec![front, registers, patches], 1)
            }
            _ => tokens,
        })
    }

    /// `[batch, patches, channels * patch_size^2]`
    fn patches(&self, pixel_values: Tensor<4>, [rows, columns]: [usize; 2]) -> Tensor<3> {
        let (batch, side) = (pixel_values.dims()[0], self.patch_size);
        pixel_values
            .reshape([batch, self.channels, rows, side, columns, side])
            .permute([0, 2, 4, 1, 3, 5])
            .reshape([batch, rows * columns, self.channels * side * side])
    }

    /// The learned positions, those of the patches resampled to `grid`.
    fn fitted(&self, positions: Tensor<3>, grid: [usize; 2], prefix: usize) -> Tensor<3> {
        let trained = self.trained_grid;
        if grid == [trained; 2] {
            return positions;
        }
        let width = positions.dims()[2];
        let front = positions.clone().slice_dim(1, 0..prefix);
        let learned = positions
            .slice_dim(1, prefix..)
            .reshape([trained, trained, width]);
        let resized = resize_grid(learned, grid, self.position_filter);
        let resized = resized.reshape([1, grid[0] * grid[1], width]);
        Tensor::cat(vec![front, resized], 1)
    }
}
