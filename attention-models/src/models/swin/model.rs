use std::path::Path;

use attention_core::AttentionError;
use burn::module::Module;
use burn::nn::{LayerNorm, LayerNormConfig, Linear, LinearConfig};
use burn::tensor::{Device, Tensor};

use super::windows::Windows;
use super::{PatchMerging, SwinBlock, SwinConfig, SwinEmbeddings, SwinVersion, families};
use crate::models::checkpoint::{CheckpointError, Format, find};

/// A Swin Transformer; see the [module](super).
#[derive(Module, Debug)]
pub struct SwinTransformer {
    /// From pixels to tokens.
    pub embeddings: SwinEmbeddings,
    /// From fine to coarse.
    pub stages: Vec<SwinStage>,
    /// After the last stage.
    pub norm: LayerNorm,
    /// From the mean token to logits.
    pub head: Option<Linear>,
    #[module(skip)]
    config: SwinConfig,
    /// How it is written.
    #[module(skip)]
    pub(super) format: Option<Format>,
}

/// Blocks on one grid, and the step to the next.
#[derive(Module, Debug)]
pub struct SwinStage {
    /// Every second one with shifted windows.
    pub blocks: Vec<SwinBlock>,
    /// To the next stage.
    pub merging: Option<PatchMerging>,
    window: usize,
    /// The trained grid's side where windows are fixed by it (version 2).
    trained_grid: Option<usize>,
}

/// What a Swin Transformer computes from a batch of images.
#[derive(Debug, Clone)]
pub struct SwinOutput {
    /// `[batch, rows, columns, width]`, normalised.
    pub last_hidden_state: Tensor<4>,
    /// `[batch, width]`: its mean over the grid.
    pub pooled: Tensor<2>,
    /// `[batch, labels]`, where there is a head.
    pub logits: Option<Tensor<2>>,
}

impl SwinConfig {
    /// Makes a model with random weights.
    ///
    /// # Panics
    ///
    /// Panics with the message of [`try_init`](Self::try_init) where that refuses.
    pub fn init(&self, device: &Device) -> SwinTransformer {
        self.try_init(device)
            .unwrap_or_else(|error| panic!("{error}"))
    }

    /// As [`init`](Self::init).
    ///
    /// # Errors
    ///
    /// Sizes that [`validate`](Self::validate) refuses.
    pub fn try_init(&self, device: &Device) -> Result<SwinTransformer, AttentionError> {
        self.validate()?;
        let stages = self.depths.len();
        let width = self.width(stages - 1);
        Ok(SwinTransformer {
            embeddings: SwinEmbeddings::new(self, device),
            stages: (0..stages)
                .map(|stage| SwinStage::new(self, stage, device))
                .collect(),
            norm: LayerNormConfig::new(width)
                .with_epsilon(self.norm_epsilon)
                .init(device),
            head: self
                .labels
                .map(|labels| LinearConfig::new(width, labels).init(device)),
            config: self.clone(),
            format: None,
        })
    }
}

impl SwinTransformer {
    /// Reads a model folder: `config.json` and `model.safetensors` of transformers'
    /// `SwinForImageClassification`, `SwinModel`, or those of Swin v2.
    ///
    /// # Errors
    ///
    /// [`CheckpointError`]: a file that is missing, truncated or of another kind, another
    /// architecture, or every tensor that does not fit.
    pub fn load(place: impl AsRef<Path>, device: &Device) -> Result<Self, CheckpointError> {
        families::load(&find(place)?, device)
    }

    /// Writes the model as a folder that transformers reads: as the one that it was read from, or
    /// from its configuration.
    ///
    /// # Errors
    ///
    /// [`CheckpointError`]: a folder that cannot be written.
    pub fn save(&self, folder: impl AsRef<Path>) -> Result<(), CheckpointError> {
        let format = match &self.format {
            Some(format) => format.clone(),
            None => families::format(&self.config),
        };
        format.save(self, folder.as_ref())
    }

    /// The sizes and variants of this model.
    pub fn config(&self) -> &SwinConfig {
        &self.config
    }

    /// Runs the model on images `[batch, channels, height, width]` of any size.
    ///
    /// # Panics
    ///
    /// Panics with the message of [`try_forward`](Self::try_forward) where that refuses.
    pub fn forward(&self, pixel_values: Tensor<4>) -> SwinOutput {
        self.try_forward(pixel_values)
            .unwrap_or_else(|error| panic!("{error}"))
    }

    /// As [`forward`](Self::forward).
    ///
    /// # Errors
    ///
    /// [`AttentionError::Shape`] for no images, no pixels, or another number of channels.
    pub fn try_forward(&self, pixel_values: Tensor<4>) -> Result<SwinOutput, AttentionError> {
        let tokens = self.embeddings.forward(pixel_values)?;
        let tokens = self
            .stages
            .iter()
            .fold(tokens, |tokens, stage| stage.forward(tokens));
        Ok(self.finish(tokens))
    }

    /// The input of the first stage and the output of each, coarsened for the next:
    /// `stages + 1` tensors `[batch, rows, columns, width]`.
    ///
    /// # Errors
    ///
    /// As [`try_forward`](Self::try_forward).
    pub fn hidden_states(&self, pixel_values: Tensor<4>) -> Result<Vec<Tensor<4>>, AttentionError> {
        let mut states = vec![self.embeddings.forward(pixel_values)?];
        for (index, stage) in self.stages.iter().enumerate() {
            states.push(stage.forward(states[index].clone()));
        }
        Ok(states)
    }

    /// Norm, pooling and head on the output of the last stage.
    pub fn finish(&self, tokens: Tensor<4>) -> SwinOutput {
        let last_hidden_state = self.norm.forward(tokens);
        let [batch, rows, columns, width] = last_hidden_state.dims();
        let mean = last_hidden_state
            .clone()
            .reshape([batch, rows * columns, width])
            .mean_dim(1);
        let pooled = mean.squeeze_dim::<2>(1);
        let logits = self.head.as_ref().map(|head| head.forward(pooled.clone()));
        SwinOutput {
            last_hidden_state,
            pooled,
            logits,
        }
    }
}

impl SwinStage {
    fn new(config: &SwinConfig, stage: usize, device: &Device) -> Self {
        let trained = config.trained_grid(stage);
        let fixed = config.version == SwinVersion::V2;
        let window = if fixed {
            config.window.min(trained)
        } else {
            config.window
        };
        let last = stage + 1 == config.depths.len();
        Self {
            blocks: (0..config.depths[stage])
                .map(|_| SwinBlock::new(config, stage, window, device))
                .collect(),
            merging: (!last).then(|| PatchMerging::new(config, stage, device)),
            window,
            trained_grid: fixed.then_some(trained),
        }
    }

    /// `[batch, rows, columns, width]`, to twice the width and half the grid where there is a next
    /// stage.
    pub fn forward(&self, tokens: Tensor<4>) -> Tensor<4> {
        let tokens = self.tokens_before(tokens, self.blocks.len());
        match &self.merging {
            Some(merging) => merging.forward(tokens),
            None => tokens,
        }
    }

    /// How much the tokens of each window attend to each other in a block, given the stage's input:
    /// `[batch * windows, heads, window^2, window^2]`. The windows of a shifted block are those of
    /// a grid that was rolled back by the shift.
    ///
    /// # Errors
    ///
    /// [`AttentionError::Value`] for a block that the stage does not have.
    pub fn window_attention(
        &self,
        tokens: Tensor<4>,
        block: usize,
    ) -> Result<Tensor<4>, AttentionError> {
        let Some(shown) = self.blocks.get(block) else {
            return Err(AttentionError::Value {
                argument: "block",
                given: block.to_string(),
                accepted: format!("0 to {}", self.blocks.len() - 1),
            });
        };
        let windows = self.windows(&tokens);
        let tokens = self.tokens_before(tokens, block);
        Ok(shown.probabilities(tokens, &windows[block % 2]))
    }

    /// The input of a block, given the stage's; of a block that the stage does not have, the output
    /// of the last.
    pub fn tokens_before(&self, tokens: Tensor<4>, block: usize) -> Tensor<4> {
        let windows = self.windows(&tokens);
        let blocks = self.blocks.iter().zip(windows.iter().cycle());
        blocks.take(block).fold(tokens, |tokens, (block, windows)| {
            block.forward(tokens, windows)
        })
    }

    /// The windows of even blocks and of odd ones.
    fn windows(&self, tokens: &Tensor<4>) -> [Windows; 2] {
        let [_, rows, columns, _] = tokens.dims();
        let device = tokens.device();
        // Version 1 shrinks windows to a smaller grid; version 2 had done so before its training.
        let smallest = self.trained_grid.unwrap_or(rows.min(columns));
        let window = if self.trained_grid.is_some() {
            self.window
        } else {
            self.window.min(smallest)
        };
        let shift = if smallest <= self.window {
            0
        } else {
            window / 2
        };
        let grid = [rows, columns].map(|side| side.next_multiple_of(window));
        let even = Windows::new(grid, window, 0, &device);
        let odd = if shift == 0 {
            even.clone()
        } else {
            Windows::new(grid, window, shift, &device)
        };
        [even, odd]
    }
}
