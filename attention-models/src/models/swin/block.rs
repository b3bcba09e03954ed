use burn::module::Module;
use burn::nn::{LayerNorm, LayerNormConfig};
use burn::tensor::{Device, Tensor, ops::PadMode};

use super::windows::Windows;
use super::{SwinConfig, SwinVersion, WindowAttention};
use crate::models::vit::Mlp;

/// One block: attention within windows, then an MLP, each added to the tokens. Norms stand before
/// the branches in version 1, after them in version 2.
#[derive(Module, Debug)]
pub struct SwinBlock {
    /// Of the attention branch.
    pub norm_attention: LayerNorm,
    /// Within windows.
    pub attention: WindowAttention,
    /// Of the MLP branch.
    pub norm_mlp: LayerNorm,
    /// On each token.
    pub mlp: Mlp,
    norm_after: bool,
}

impl SwinBlock {
    pub(super) fn new(config: &SwinConfig, stage: usize, window: usize, device: &Device) -> Self {
        let width = config.width(stage);
        let norm = || {
            LayerNormConfig::new(width)
                .with_epsilon(config.norm_epsilon)
                .init(device)
        };
        let inner = (width as f64 * config.mlp_ratio) as usize;
        Self {
            norm_attention: norm(),
            attention: WindowAttention::new(config, stage, window, device),
            norm_mlp: norm(),
            mlp: Mlp::new(width, inner, config.activation, device),
            norm_after: config.version == SwinVersion::V2,
        }
    }

    /// `[batch, rows, columns, width]` to the same.
    pub(super) fn forward(&self, tokens: Tensor<4>, windows: &Windows) -> Tensor<4> {
        let tokens = tokens.clone() + self.attended(tokens, windows);
        let mixed = if self.norm_after {
            self.norm_mlp.forward(self.mlp.forward(tokens.clone()))
        } else {
            self.mlp.forward(self.norm_mlp.forward(tokens.clone()))
        };
        tokens + mixed
    }

    /// How much the tokens of each window attend to each other, given the block's input.
    pub(super) fn probabilities(&self, tokens: Tensor<4>, windows: &Windows) -> Tensor<4> {
        let tokens = self.attention_input(tokens, windows);
        self.attention.probabilities(tokens, windows)
    }

    fn attended(&self, tokens: Tensor<4>, windows: &Windows) -> Tensor<4> {
        let [batch, rows, columns, width] = tokens.dims();
        let tokens = self.attention_input(tokens, windows);
        let attended = self.attention.forward(tokens, windows);
        let attended = attended.reshape([batch, windows.grid[0], windows.grid[1], width]);
        let attended = attended.slice([0..batch, 0..rows, 0..columns, 0..width]);
        if self.norm_after {
            self.norm_attention.forward(attended)
        } else {
            attended
        }
    }

    /// `[batch, rows * columns, width]` of the windows' grid: tokens of 0 fill it up, and take part
    /// in attention, as in the models' training.
    fn attention_input(&self, tokens: Tensor<4>, windows: &Windows) -> Tensor<3> {
        let tokens = if self.norm_after {
            tokens
        } else {
            self.norm_attention.forward(tokens)
        };
        let [batch, rows, columns, width] = tokens.dims();
        let [down, across] = [windows.grid[0] - rows, windows.grid[1] - columns];
        let tokens = if down + across > 0 {
            tokens.pad(
                [(0, 0), (0, down), (0, across), (0, 0)],
                PadMode::Constant(0.0),
            )
        } else {
            tokens
        };
        tokens.reshape([batch, windows.grid[0] * windows.grid[1], width])
    }
}
