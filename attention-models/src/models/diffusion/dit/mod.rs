//! The diffusion transformer (Peebles & Xie 2023, <https://arxiv.org/abs/2212.09748>).

mod block;
mod file;

pub use block::{AdaptiveNorm, ClassEmbedding, Condition, DiTBlock};

use std::path::Path;

use attention_core::{AttentionError, MAX_HEAD_DIM};
use burn::config::Config;
use burn::module::Module;
use burn::nn::{
    Linear, LinearConfig,
    conv::{Conv2d, Conv2dConfig},
};
use burn::tensor::{Device, Int, Tensor, TensorData, activation::silu};

use super::blocks::{TimeProjection, to_tokens};
use super::folder::{DiffusersFolder, save};
use super::{AttentionControl, Context, Plain};
use crate::models::checkpoint::{CheckpointError, find};
use crate::ops::accept;
use block::{EPSILON, TIME_WIDTH, chunks, modulate, normalise};
use file::{DiTFile, OFFERED};

/// The sizes of a [`DiT`].
///
/// ```
/// use attention_models::models::diffusion::DiTConfig;
/// use burn::tensor::{Device, Tensor};
///
/// let device = Device::flex();
/// let model = DiTConfig::new(8, 2, 4, 8, 2, 4, 8, 10).init(&device);
/// let latents = Tensor::zeros([1, 4, 8, 8], &device);
/// let time = Tensor::from_data([10.0], &device);
/// let class = Tensor::from_data([3], &device);
/// assert_eq!(model.forward(latents, time, class).dims(), [1, 8, 8, 8]);
/// ```
#[derive(Config, Debug, PartialEq)]
pub struct DiTConfig {
    /// Side of the latents for which positions are counted.
    pub size: usize,
    /// Side of a patch.
    pub patch_size: usize,
    /// Channels of the latents.
    pub inputs: usize,
    /// Channels of the prediction: the noise, and its variance where the model learned it.
    pub outputs: usize,
    /// Number of blocks.
    pub layers: usize,
    /// Heads.
    pub heads: usize,
    /// Width of a head.
    pub head_dim: usize,
    /// Classes; the number after the last stands for no class.
    pub classes: usize,
    /// Added to the variance before the MLP.
    #[config(default = 1e-5)]
    pub norm_epsilon: f64,
}

/// diffusers' `DiTTransformer2DModel`: predicts the noise in latents from them, the time and a
/// class. Norms are scaled and shifted by what a block computes of time and class, and its branches
/// are gated by it (adaLN-Zero).
#[derive(Module, Debug)]
pub struct DiT {
    /// From latents to tokens.
    pub pos_embed: PatchEmbedding,
    /// The blocks.
    pub transformer_blocks: Vec<DiTBlock>,
    /// `width -> 2 width`: shift and scale of the last norm.
    pub proj_out_1: Linear,
    /// `width -> patch_size^2 * outputs`
    pub proj_out_2: Linear,
    #[module(skip)]
    config: DiTConfig,
}

/// A linear layer on each patch.
#[derive(Module, Debug)]
pub struct PatchEmbedding {
    /// As a convolution whose stride is its size.
    pub proj: Conv2d,
}

impl DiTConfig {
    /// A model with fresh weights.
    ///
    /// # Panics
    /// With the message of the error that [`try_init`](Self::try_init) returns.
    pub fn init(&self, device: &Device) -> DiT {
        accept(self.try_init(device))
    }

    /// A model with fresh weights.
    ///
    /// # Errors
    /// [`AttentionError::Value`] for a size of 0, no layer, heads of more than 256 columns, or a
    /// width that is no multiple of 4, from which positions are made.
    pub fn try_init(&self, device: &Device) -> Result<DiT, AttentionError> {
        self.validate()?;
        let width = self.width();
        let patch = [self.patch_size; 2];
        let pixels = self.patch_size.pow(2) * self.outputs;
        Ok(DiT {
            pos_embed: PatchEmbedding {
                proj: Conv2dConfig::new([self.inputs, width], patch)
                    .with_stride(patch)
                    .init(device),
            },
            transformer_blocks: (0..self.layers)
                .map(|_| DiTBlock::new(self, device))
                .collect(),
            proj_out_1: LinearConfig::new(width, 2 * width).init(device),
            proj_out_2: LinearConfig::new(width, pixels).init(device),
            config: self.clone(),
        })
    }

    /// Width of a token.
    pub fn width(&self) -> usize {
        self.heads * self.head_dim
    }

    fn validate(&self) -> Result<(), AttentionError> {
        let refuse = |argument, given: usize, accepted: &str| {
            Err(AttentionError::Value {
                argument,
                given: given.to_string(),
                accepted: accepted.to_string(),
            })
        };
        for (argument, given) in [
            ("patch_size", self.patch_size),
            ("inputs", self.inputs),
            ("outputs", self.outputs),
            ("layers", self.layers),
            ("heads", self.heads),
        ] {
            if given == 0 {
                return refuse(argument, given, "at least 1");
            }
        }
        if self.size < self.patch_size {
            return refuse("size", self.size, "at least the patch size");
        }
        if self.head_dim == 0 || self.head_dim > MAX_HEAD_DIM {
            return refuse("head_dim", self.head_dim, "from 1 to 256");
        }
        if !self.width().is_multiple_of(4) {
            return refuse(
                "head_dim",
                self.head_dim,
                "such that the width is a multiple of 4",
            );
        }
        Ok(())
    }
}

impl DiT {
    /// Reads a folder that diffusers' `DiTTransformer2DModel.save_pretrained` wrote.
    ///
    /// # Errors
    /// [`CheckpointError`]: a file that is missing, truncated or of another kind, another
    /// architecture, an option that is not offered, or every tensor that does not fit.
    pub fn load(place: impl AsRef<Path>, device: &Device) -> Result<Self, CheckpointError> {
        let folder = DiffusersFolder::open(
            &find(place)?,
            &["DiTTransformer2DModel", "Transformer2DModel"],
        )?;
        let file: DiTFile = folder.config(&OFFERED)?;
        let config = file.config();
        let model = config
            .try_init(device)
            .map_err(|error| folder.invalid(error))?;
        folder.load(model)
    }

    /// Writes the model as a folder that diffusers reads.
    ///
    /// # Errors
    /// [`CheckpointError`]: a folder that cannot be written.
    pub fn save(&self, folder: impl AsRef<Path>) -> Result<(), CheckpointError> {
        save(self, file::of(&self.config), folder.as_ref())
    }

    /// The sizes of this model.
    pub fn config(&self) -> &DiTConfig {
        &self.config
    }

    /// What the model predicts, `[batch, outputs, height, width]`, of latents
    /// `[batch, inputs, height, width]` at `timesteps [batch]`, of `classes [batch]`.
    ///
    /// # Panics
    /// With the message of the error that [`try_forward`](Self::try_forward) returns.
    pub fn forward(
        &self,
        latents: Tensor<4>,
        timesteps: Tensor<1>,
        classes: Tensor<1, Int>,
    ) -> Tensor<4> {
        accept(self.try_forward(latents, timesteps, classes, &mut Plain))
    }

    /// [`forward`](Self::forward), with a say in every attention.
    ///
    /// # Errors
    /// [`AttentionError::Shape`]: latents whose channels or size do not fit, times or classes that
    /// are not one for each.
    pub fn try_forward(
        &self,
        latents: Tensor<4>,
        timesteps: Tensor<1>,
        classes: Tensor<1, Int>,
        control: &mut dyn AttentionControl,
    ) -> Result<Tensor<4>, AttentionError> {
        self.check(&latents, timesteps.dims(), classes.dims())?;
        let projection = TimeProjection {
            cosine_first: true,
            frequency_shift: 1.0,
        };
        let time = projection.forward(timesteps, TIME_WIDTH);
        let [_, _, height, width] = latents.dims();
        let grid = [height, width].map(|length| length / self.config.patch_size);
        let mut context = Context::new(None, control);

        let dtype = self.pos_embed.proj.weight.dtype();
        let tokens = to_tokens(self.pos_embed.proj.forward(latents.cast(dtype)));
        let positions = self.positions(grid, &tokens.device()).cast(dtype);
        let tokens = self
            .transformer_blocks
            .iter()
            .fold(tokens + positions, |tokens, block| {
                let condition = block.norm1.emb.forward(time.clone(), classes.clone());
                block.forward(
                    tokens,
                    condition,
                    self.config.norm_epsilon,
                    grid,
                    &mut context,
                )
            });

        let condition = self.transformer_blocks[0].norm1.emb.forward(time, classes);
        let modulation = self.proj_out_1.forward(silu(condition));
        let [shift, scale] = chunks(modulation);
        let tokens = modulate(normalise(tokens, EPSILON), shift, scale);
        Ok(self.patches_to_image(self.proj_out_2.forward(tokens), grid))
    }

    fn check(
        &self,
        latents: &Tensor<4>,
        timesteps: [usize; 1],
        classes: [usize; 1],
    ) -> Result<(), AttentionError> {
        let [batch, channels, height, width] = latents.dims();
        let side = self.config.patch_size;
        let fits = |length: usize| length > 0 && length.is_multiple_of(side);
        if batch == 0 || channels != self.config.inputs || !fits(height) || !fits(width) {
            return Err(AttentionError::Shape {
                argument: "latents",
                given: latents.dims().to_vec(),
                accepted: format!(
                    "[batch, {}, height, width] with height and width multiples of {side}",
                    self.config.inputs
                ),
            });
        }
        for (argument, given) in [("timesteps", timesteps), ("classes", classes)] {
            if given != [batch] {
                return Err(AttentionError::Shape {
                    argument,
                    given: given.to_vec(),
                    accepted: format!("[{batch}], the batch"),
                });
            }
        }
        Ok(())
    }

    /// Sines and cosines of columns and rows, `[1, patches, width]`; a grid of another size than the
    /// model's has its positions in between.
    fn positions(&self, grid: [usize; 2], device: &Device) -> Tensor<3> {
        let trained = (self.config.size / self.config.patch_size) as f64;
        let [rows, columns] = grid;
        let width = self.config.width();
        let frequencies = width / 4;
        let mut numbers = Vec::with_capacity(rows * columns * width);
        for patch in 0..rows * columns {
            let column = (patch % columns) as f64 * trained / columns as f64;
            let row = (patch / columns) as f64 * trained / rows as f64;
            for position in [column, row] {
                let angle = |i: usize| position / 10000f64.powf(i as f64 / frequencies as f64);
                numbers.extend((0..frequencies).map(|i| angle(i).sin() as f32));
                numbers.extend((0..frequencies).map(|i| angle(i).cos() as f32));
            }
        }
        Tensor::from_data(TensorData::new(numbers, [1, rows * columns, width]), device)
    }

    /// `[batch, patches, patch_size^2 * outputs] -> [batch, outputs, height, width]`
    fn patches_to_image(&self, patches: Tensor<3>, [rows, columns]: [usize; 2]) -> Tensor<4> {
        let (batch, side) = (patches.dims()[0], self.config.patch_size);
        let channels = self.config.outputs;
        patches
            .reshape([batch, rows, columns, side, side, channels])
            .permute([0, 5, 1, 3, 2, 4])
            .reshape([batch, channels, rows * side, columns * side])
    }
}
