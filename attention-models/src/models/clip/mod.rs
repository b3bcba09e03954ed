//! CLIP: images and texts in one space (Radford et al. 2021, <https://arxiv.org/abs/2103.00020>): a
//! [`VisionTransformer`] and an [`Encoder`],
//! each with a projection, and the factor on the cosines between what they give.
//!
//! ```no_run
//! use attention_models::models::clip::Clip;
//! use attention_models::models::encoder::EncoderInput;
//! use burn::tensor::{Device, Tensor};
//!
//! let device = Device::flex();
//! let model = Clip::load("clip-vit-base-patch32", &device)?;
//! let photo = Tensor::<4>::zeros([1, 3, 224, 224], &device);
//! let captions = Tensor::from_data([[49406, 320, 2368, 49407], [49406, 320, 1929, 49407]], &device);
//! let output = model.try_forward(photo, EncoderInput::new(captions))?;
//! let logits = output.logits_per_image; // [1, 2]
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod families;

use std::path::Path;

use attention_core::AttentionError;
use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor};

use super::checkpoint::{CheckpointError, Format, find};
use super::encoder::{Encoder, EncoderInput};
use super::vit::VisionTransformer;

/// Both towers of CLIP; see the [module](self).
#[derive(Module, Debug)]
pub struct Clip {
    /// Of images; its head is the projection.
    pub vision: VisionTransformer,
    /// Of texts, with its projection.
    pub text: Encoder,
    /// The logarithm of the factor on cosines, `[1]`.
    pub logit_scale: Param<Tensor<1>>,
    /// Of the folder that was read.
    #[module(skip)]
    format: Option<Format>,
}

/// How images and texts fit each other.
#[derive(Debug, Clone)]
pub struct ClipOutput {
    /// `[images, width]`, each of length 1.
    pub image_embeds: Tensor<2>,
    /// `[texts, width]`, each of length 1.
    pub text_embeds: Tensor<2>,
    /// `[images, texts]`: cosines times the learned factor.
    pub logits_per_image: Tensor<2>,
}

impl Clip {
    /// Reads a model folder: `config.json` and `model.safetensors` of transformers' `CLIPModel`.
    ///
    /// # Errors
    ///
    /// [`CheckpointError`]: a file that is missing, truncated or of another kind, another
    /// architecture, or every tensor of a tower that does not fit.
    pub fn load(place: impl AsRef<Path>, device: &Device) -> Result<Self, CheckpointError> {
        families::load(&find(place)?, device)
    }

    /// Writes the model as a folder like the one that it was read from, which transformers can read.
    ///
    /// # Errors
    ///
    /// [`CheckpointError`]: a folder that cannot be written.
    pub fn save(&self, folder: impl AsRef<Path>) -> Result<(), CheckpointError> {
        families::save(self, folder.as_ref())
    }

    /// Compares images `[images, channels, height, width]` with texts.
    ///
    /// # Errors
    ///
    /// Those of [`VisionTransformer::try_forward`] and of [`Encoder::try_forward`].
    pub fn try_forward(
        &self,
        pixel_values: Tensor<4>,
        texts: EncoderInput,
    ) -> Result<ClipOutput, AttentionError> {
        let image_embeds = self.image_embeds(pixel_values)?;
        let text_embeds = self.text_embeds(texts)?;
        let cosines = image_embeds.clone().matmul(text_embeds.clone().transpose());
        Ok(ClipOutput {
            image_embeds,
            text_embeds,
            logits_per_image: cosines * self.logit_scale.val().exp().unsqueeze(),
        })
    }

    /// `[images, width]`, each of length 1.
    ///
    /// # Errors
    ///
    /// As [`VisionTransformer::try_forward`].
    pub fn image_embeds(&self, pixel_values: Tensor<4>) -> Result<Tensor<2>, AttentionError> {
        let output = self.vision.try_forward(pixel_values)?;
        Ok(unit(output.logits.unwrap_or(output.pooled)))
    }

    /// `[texts, width]`, each of length 1.
    ///
    /// # Errors
    ///
    /// As [`Encoder::try_forward`].
    pub fn text_embeds(&self, texts: EncoderInput) -> Result<Tensor<2>, AttentionError> {
        let output = self.text.try_forward(texts)?;
        let projected = output.projected.or(output.pooled);
        Ok(unit(projected.expect(
            "invariant: CLIP's text tower has a pooled output",
        )))
    }
}

/// Each row divided by its length.
fn unit(rows: Tensor<2>) -> Tensor<2> {
    let length = rows.clone().square().sum_dim(1).sqrt();
    rows / length
}
