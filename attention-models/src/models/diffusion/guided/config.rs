use attention_core::{AttentionError, MAX_HEAD_DIM};
use burn::config::Config;
use burn::nn::{Linear, LinearConfig, activation::SiLU};
use burn::tensor::Device;

use super::{AttentionBlock, GuidedUNet, Layer, ResBlock, Resample};
use crate::models::diffusion::blocks::{Norm, convolution};
use crate::ops::accept;

/// How much wider than the first level the embedding is.
const EMBEDDING_FACTOR: usize = 4;

/// The sizes of a [`GuidedUNet`].
///
/// ```
/// use attention_models::models::diffusion::guided::GuidedUNetConfig;
/// use burn::tensor::{Device, Tensor};
///
/// let device = Device::flex();
/// // Two levels, the lower one with attention.
/// let unet = GuidedUNetConfig::new(32, vec![1, 2], 1, vec![1]).init(&device);
/// let noisy = Tensor::zeros([1, 1, 16, 16], &device);
/// let (sigma, label) = (Tensor::from_data([80.0], &device), Tensor::from_data([0.5], &device));
/// assert_eq!(unet.denoise(noisy, sigma, label)?.dims(), [1, 1, 16, 16]);
/// # Ok::<(), attention_models::ops::AttentionError>(())
/// ```
#[derive(Config, Debug, PartialEq)]
pub struct GuidedUNetConfig {
    /// Channels of the first level.
    pub model_channels: usize,
    /// Multiples of them, for each level.
    pub channel_mult: Vec<usize>,
    /// Residual blocks of each level on the way down; there is one more on the way up.
    pub layers: usize,
    /// The levels with attention, from 0.
    pub attention_levels: Vec<usize>,
    /// Channels of an image.
    #[config(default = 1)]
    pub inputs: usize,
    /// Channels of the output.
    #[config(default = 1)]
    pub outputs: usize,
    /// Width of a head.
    #[config(default = 32)]
    pub head_dim: usize,
    /// Groups of every norm.
    #[config(default = 32)]
    pub norm_groups: usize,
    /// Added to the variance in every norm.
    #[config(default = 1e-5)]
    pub norm_epsilon: f64,
    /// Side of the images that the model was trained with.
    #[config(default = 128)]
    pub image_size: usize,
    /// The smallest noise level.
    #[config(default = 0.002)]
    pub sigma_min: f64,
    /// The largest noise level, from which images are made.
    #[config(default = 80.0)]
    pub sigma_max: f64,
    /// The deviation of the data.
    #[config(default = 0.5)]
    pub sigma_data: f64,
}

impl GuidedUNetConfig {
    /// A model with fresh weights.
    ///
    /// # Panics
    /// With the message of the error that [`try_init`](Self::try_init) returns.
    pub fn init(&self, device: &Device) -> GuidedUNet {
        accept(self.try_init(device))
    }

    /// A model with fresh weights.
    ///
    /// # Errors
    /// [`AttentionError::Value`] for no levels or layers, channels that the norm groups or the width
    /// of a head do not divide, or a level that there is not.
    pub fn try_init(&self, device: &Device) -> Result<GuidedUNet, AttentionError> {
        self.validate()?;
        let first = self.model_channels;
        let lowest = first * self.channel_mult[self.channel_mult.len() - 1];
        let (input_blocks, skips) = self.way_down(device);
        let middle = || self.residual([lowest, lowest], Resample::Keep, device);
        Ok(GuidedUNet {
            time_embed: self.mlp(first, device),
            label_emb: self.mlp(1, device),
            input_blocks,
            middle_block: (middle(), self.attention(lowest, device), middle()),
            output_blocks: self.way_up(lowest, skips, device),
            out: (
                self.norm().init(first * self.channel_mult[0], device),
                SiLU,
                convolution([first * self.channel_mult[0], self.outputs], 3, device),
            ),
            config: self.clone(),
            format: None,
        })
    }

    /// The blocks, and the channels of each one's output.
    fn way_down(&self, device: &Device) -> (Vec<Vec<Layer>>, Vec<usize>) {
        let first = convolution([self.inputs, self.model_channels], 3, device);
        let mut blocks = vec![vec![Layer::Convolution(first)]];
        let mut from = self.model_channels;
        let mut skips = vec![from];
        for (level, factor) in self.channel_mult.iter().enumerate() {
            let channels = factor * self.model_channels;
            for _ in 0..self.layers {
                blocks.push(self.block([from, channels], level, device));
                skips.push(channels);
                from = channels;
            }
            if level + 1 < self.channel_mult.len() {
                let down = self.residual([channels, channels], Resample::Down, device);
                blocks.push(vec![Layer::Residual(down)]);
                skips.push(channels);
            }
        }
        (blocks, skips)
    }

    fn way_up(&self, lowest: usize, mut skips: Vec<usize>, device: &Device) -> Vec<Vec<Layer>> {
        let mut blocks = Vec::new();
        let mut from = lowest;
        for (level, factor) in self.channel_mult.iter().enumerate().rev() {
            let channels = factor * self.model_channels;
            for layer in 0..=self.layers {
                let inputs = from + skips.pop().unwrap_or(0);
                let mut block = self.block([inputs, channels], level, device);
                if level > 0 && layer == self.layers {
                    let up = self.residual([channels, channels], Resample::Up, device);
                    block.push(Layer::Residual(up));
                }
                blocks.push(block);
                from = channels;
            }
        }
        blocks
    }

    /// A residual block, with attention on the levels that have it.
    fn block(&self, channels: [usize; 2], level: usize, device: &Device) -> Vec<Layer> {
        let residual = self.residual(channels, Resample::Keep, device);
        let mut block = vec![Layer::Residual(residual)];
        if self.attention_levels.contains(&level) {
            block.push(Layer::Attention(self.attention(channels[1], device)));
        }
        block
    }

    fn residual(&self, channels: [usize; 2], resample: Resample, device: &Device) -> ResBlock {
        ResBlock::new(channels, self.embedding(), self.norm(), resample, device)
    }

    fn attention(&self, channels: usize, device: &Device) -> AttentionBlock {
        AttentionBlock::new(channels, channels / self.head_dim, self.norm(), device)
    }

    fn mlp(&self, inputs: usize, device: &Device) -> (Linear, SiLU, Linear) {
        let width = self.embedding();
        (
            LinearConfig::new(inputs, width).init(device),
            SiLU,
            LinearConfig::new(width, width).init(device),
        )
    }

    fn embedding(&self) -> usize {
        EMBEDDING_FACTOR * self.model_channels
    }

    fn norm(&self) -> Norm {
        Norm {
            groups: self.norm_groups,
            epsilon: self.norm_epsilon,
        }
    }

    fn validate(&self) -> Result<(), AttentionError> {
        let refuse = |argument, given: String, accepted: String| {
            Err(AttentionError::Value {
                argument,
                given,
                accepted,
            })
        };
        let levels = self.channel_mult.len();
        if levels == 0 || self.layers == 0 || self.channel_mult.contains(&0) {
            let given = format!("{:?} of {} layers", self.channel_mult, self.layers);
            return refuse("channel_mult", given, "at least one level and layer".into());
        }
        let divides = |number: usize| number > 0 && self.model_channels.is_multiple_of(number);
        if self.model_channels == 0 || !divides(self.norm_groups) {
            let accepted = format!("a divisor of {} channels", self.model_channels);
            return refuse("norm_groups", self.norm_groups.to_string(), accepted);
        }
        if !divides(self.head_dim) || self.head_dim > MAX_HEAD_DIM {
            let accepted = format!(
                "a divisor of {} channels, at most {MAX_HEAD_DIM}",
                self.model_channels
            );
            return refuse("head_dim", self.head_dim.to_string(), accepted);
        }
        if self.attention_levels.iter().any(|level| *level >= levels) {
            let given = format!("{:?}", self.attention_levels);
            return refuse("attention_levels", given, format!("levels below {levels}"));
        }
        Ok(())
    }
}
