//! The UNet of guided-diffusion (Dhariwal & Nichol 2021, <https://arxiv.org/abs/2105.05233>), under
//! the names of its state dict, and the preconditioning with which a consistency model makes an
//! image in one step (Song et al. 2023, <https://arxiv.org/abs/2303.01469>).

mod blocks;
mod config;
mod file;
mod terrain;

pub use blocks::{AttentionBlock, Layer, ResBlock, Resample};
pub use config::GuidedUNetConfig;
pub use terrain::Terrain;

use std::path::Path;

use attention_core::AttentionError;
use burn::module::Module;
use burn::nn::{GroupNorm, Linear, activation::SiLU, conv::Conv2d};
use burn::tensor::{Device, Tensor};

use super::blocks::TimeProjection;
use super::{AttentionControl, Context, Plain};
use crate::models::blocks::{convolve, group_norm, silu};
use crate::models::checkpoint::{CheckpointError, Format, find};
use crate::ops::accept;

/// How a noise level is given to the model: `250 ln(sigma)`.
const TIME_SCALE: f64 = 250.0;

/// guided-diffusion's `UNetModel`, told the time and one number, from 0 to 1, of what to draw.
#[derive(Module, Debug)]
pub struct GuidedUNet {
    /// On the projected time.
    pub time_embed: (Linear, SiLU, Linear),
    /// On the number.
    pub label_emb: (Linear, SiLU, Linear),
    /// The way down; the output of each is read on the way up.
    pub input_blocks: Vec<Vec<Layer>>,
    /// At the smallest size.
    pub middle_block: (ResBlock, AttentionBlock, ResBlock),
    /// The way up.
    pub output_blocks: Vec<Vec<Layer>>,
    /// Norm and last convolution.
    pub out: (GroupNorm, SiLU, Conv2d),
    #[module(skip)]
    config: GuidedUNetConfig,
    /// Of the folder that was read.
    #[module(skip)]
    format: Option<Format>,
}

impl GuidedUNet {
    /// Reads a folder of `config.json` and `model.safetensors`, the state dict under guided-diffusion's
    /// names. `cargo xtask models fetch terrain` makes one.
    ///
    /// # Errors
    /// [`CheckpointError`]: a file that is missing, truncated or of another kind, another
    /// architecture, an option that is not offered, or every tensor that does not fit.
    pub fn load(place: impl AsRef<Path>, device: &Device) -> Result<Self, CheckpointError> {
        file::load(&find(place)?, device)
    }

    /// Writes the model as a folder like the one that it was read from.
    ///
    /// # Errors
    /// [`CheckpointError`]: a folder that cannot be written, or a model that was not read from one.
    pub fn save(&self, folder: impl AsRef<Path>) -> Result<(), CheckpointError> {
        let folder = folder.as_ref();
        Format::of_read(&self.format, folder)?.save(self, folder)
    }

    /// The sizes of this model.
    pub fn config(&self) -> &GuidedUNetConfig {
        &self.config
    }

    /// The network alone: `[batch, outputs, height, width]` of an image
    /// `[batch, inputs, height, width]`, `times [batch]` and `labels [batch]`.
    ///
    /// # Panics
    /// With the message of the error that [`try_forward`](Self::try_forward) returns.
    pub fn forward(&self, sample: Tensor<4>, times: Tensor<1>, labels: Tensor<1>) -> Tensor<4> {
        accept(self.try_forward(sample, times, labels, &mut Plain))
    }

    /// [`forward`](Self::forward), with a say in every attention.
    ///
    /// # Errors
    /// [`AttentionError::Shape`]: an image whose channels or size do not fit, times or labels that
    /// are not one for each image.
    pub fn try_forward(
        &self,
        sample: Tensor<4>,
        times: Tensor<1>,
        labels: Tensor<1>,
        control: &mut dyn AttentionControl,
    ) -> Result<Tensor<4>, AttentionError> {
        self.check(&sample, times.dims(), labels.dims())?;
        let projection = TimeProjection {
            cosine_first: true,
            frequency_shift: 0.0,
        };
        let times = projection.forward(times, self.config.model_channels);
        let embedding =
            embed(&self.time_embed, times) + embed(&self.label_emb, labels.unsqueeze_dim::<2>(1));
        let embedding = silu(embedding);
        let mut context = Context::new(None, control);

        let run = |x: Tensor<4>, block: &[Layer], context: &mut Context| {
            let layers = block.iter();
            layers.fold(x, |x, layer| layer.forward(x, &embedding, context))
        };
        let mut x = sample.cast(embedding.dtype());
        let mut skips = Vec::new();
        for block in &self.input_blocks {
            x = run(x, block, &mut context);
            skips.push(x.clone());
        }
        let (before, attention, after) = &self.middle_block;
        x = before.forward(x, &embedding);
        x = attention.forward(x, &mut context);
        x = after.forward(x, &embedding);
        for (block, skip) in self.output_blocks.iter().zip(skips.into_iter().rev()) {
            x = run(Tensor::cat(vec![x, skip], 1), block, &mut context);
        }
        let (norm, _, last) = &self.out;
        Ok(convolve(last, silu(group_norm(norm, x))))
    }

    /// The image that a consistency model sees in `noisy [batch, inputs, height, width]` at the noise
    /// levels `sigma [batch]`, within -1 and 1: the network's output and its input, weighed so that at
    /// the smallest level the image is the input (Karras et al. 2022,
    /// <https://arxiv.org/abs/2206.00364>, with the boundary of Song et al. 2023).
    ///
    /// # Errors
    /// Those of [`try_forward`](Self::try_forward).
    pub fn denoise(
        &self,
        noisy: Tensor<4>,
        sigma: Tensor<1>,
        labels: Tensor<1>,
    ) -> Result<Tensor<4>, AttentionError> {
        self.check(&noisy, sigma.dims(), labels.dims())?;
        let batch = sigma.dims()[0];
        let data = self.config.sigma_data;
        let above = sigma.clone() - self.config.sigma_min;
        let total = (sigma.clone().square() + data.powi(2)).sqrt();
        let skip = (above.clone().square() + data.powi(2)).recip() * data.powi(2);
        let of_output = above / total.clone() * data;
        let column = |factor: Tensor<1>| factor.reshape([batch, 1, 1, 1]);

        let input = noisy.clone() * column(total.recip());
        let times = sigma.log() * TIME_SCALE;
        let output = self.try_forward(input, times, labels, &mut Plain)?;
        let image = output.cast(noisy.dtype()) * column(of_output) + noisy * column(skip);
        Ok(image.clamp(-1.0, 1.0))
    }

    fn check(
        &self,
        sample: &Tensor<4>,
        times: [usize; 1],
        labels: [usize; 1],
    ) -> Result<(), AttentionError> {
        let [batch, channels, height, width] = sample.dims();
        let side = 1 << (self.config.channel_mult.len() - 1);
        let fits = |length: usize| length > 0 && length.is_multiple_of(side);
        if batch == 0 || channels != self.config.inputs || !fits(height) || !fits(width) {
            return Err(AttentionError::Shape {
                argument: "sample",
                given: sample.dims().to_vec(),
                accepted: format!(
                    "[batch, {}, height, width] with height and width multiples of {side}",
                    self.config.inputs
                ),
            });
        }
        for (argument, given) in [("times", times), ("labels", labels)] {
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
}

fn embed((first, activation, second): &(Linear, SiLU, Linear), x: Tensor<2>) -> Tensor<2> {
    let x = x.cast(first.weight.dtype());
    second.forward(activation.forward(first.forward(x)))
}
