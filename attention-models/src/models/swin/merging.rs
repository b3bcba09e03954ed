use burn::module::Module;
use burn::nn::{LayerNorm, LayerNormConfig, Linear, LinearConfig};
use burn::tensor::{Device, Tensor, ops::PadMode};

use super::{SwinConfig, SwinVersion};

/// Between two stages: four neighbours become one token of twice the width.
#[derive(Module, Debug)]
pub struct PatchMerging {
    /// Before the projection in version 1, after it in version 2.
    pub norm: LayerNorm,
    /// `4 * width -> 2 * width`
    pub reduction: Linear,
    norm_after: bool,
}

impl PatchMerging {
    pub(super) fn new(config: &SwinConfig, stage: usize, device: &Device) -> Self {
        let width = config.width(stage);
        let norm_after = config.version == SwinVersion::V2;
        let normed = if norm_after { 2 * width } else { 4 * width };
        Self {
            norm: LayerNormConfig::new(normed)
                .with_epsilon(config.norm_epsilon)
                .init(device),
            reduction: LinearConfig::new(4 * width, 2 * width)
                .with_bias(false)
                .init(device),
            norm_after,
        }
    }

    /// `[batch, rows, columns, width]` to `[batch, rows / 2, columns / 2, 2 * width]`, rounded up:
    /// tokens of 0 fill up an odd grid.
    pub fn forward(&self, tokens: Tensor<4>) -> Tensor<4> {
        let [batch, rows, columns, width] = tokens.dims();
        let tokens = if rows % 2 + columns % 2 > 0 {
            let padding = [(0, 0), (0, rows % 2), (0, columns % 2), (0, 0)];
            tokens.pad(padding, PadMode::Constant(0.0))
        } else {
            tokens
        };
        let (rows, columns) = (rows.div_ceil(2), columns.div_ceil(2));
        // Each column of two, from top to bottom.
        let four = tokens
            .reshape([batch, rows, 2, columns, 2, width])
            .permute([0, 1, 3, 4, 2, 5])
            .reshape([batch, rows, columns, 4 * width]);
        if self.norm_after {
            self.norm.forward(self.reduction.forward(four))
        } else {
            self.reduction.forward(self.norm.forward(four))
        }
    }
}
