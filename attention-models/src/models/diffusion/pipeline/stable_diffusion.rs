use std::path::Path;

use attention_core::AttentionError;
use burn::tensor::{Device, Tensor};
use serde_json::Value;

use super::{LatentDiffusion, Word, words};
use crate::models::checkpoint::{CheckpointError, find};
use crate::models::encoder::{Encoder, EncoderInput};
use crate::models::tokenizer::{Length, Side, Tokenizer, TokenizerError};

/// What `model_index.json` names.
const CLASS: &str = "StableDiffusionPipeline";

/// A folder of diffusers' `StableDiffusionPipeline`: pictures of a prompt.
///
/// ```no_run
/// use attention_models::models::diffusion::{
///     Noise, Plain,
///     pipeline::{Guidance, SamplingConfig, StableDiffusion},
/// };
/// use burn::tensor::Device;
///
/// let device = Device::flex();
/// let model = StableDiffusion::load("stable-diffusion-v1-5", &device)?;
/// let guidance = Guidance {
///     text: model.prompt("a photo of an astronaut riding a horse on mars")?.embedding,
///     negative: model.prompt("")?.embedding,
/// };
/// let mut noise = Noise::new(42);
/// let start = model.latent.noise(1, [512, 512], &mut noise, &device)?;
/// let sampling = SamplingConfig::new();
/// let latents =
///     model.latent.sample(start, &guidance, &sampling, &mut Plain, &mut noise, |_, _| ())?;
/// let pixels = model.latent.decode(latents)?; // [1, 3, 512, 512]
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct StableDiffusion {
    /// From a text to tokens.
    pub tokenizer: Tokenizer,
    /// From tokens to vectors: CLIP's text tower.
    pub text_encoder: Encoder,
    /// From vectors to pictures.
    pub latent: LatentDiffusion,
}

/// A prompt as the models see it.
#[derive(Debug, Clone)]
pub struct Prompt {
    /// Its words; those beyond the last token that the text encoder takes are cut off.
    pub words: Vec<Word>,
    /// `[1, tokens, width]`
    pub embedding: Tensor<3>,
}

/// Why a pipeline or a prompt was refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PipelineError {
    /// A folder that is no model.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// A tokenizer that cannot be read, or a text that it cannot express.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    /// An input that does not fit a model.
    #[error(transparent)]
    Input(#[from] AttentionError),
}

impl StableDiffusion {
    /// Reads `model_index.json` and the folders `tokenizer`, `text_encoder`, `unet`, `vae` and
    /// `scheduler`.
    ///
    /// # Errors
    /// [`PipelineError`]: a folder of another pipeline, or the first part that cannot be used.
    pub fn load(place: impl AsRef<Path>, device: &Device) -> Result<Self, PipelineError> {
        let folder = find(place)?;
        check_pipeline(&folder)?;
        let text_encoder = Encoder::load(folder.join("text_encoder"), device)?;
        let tokens = text_encoder.config().max_positions;
        let tokenizer = Tokenizer::load(folder.join("tokenizer"))?.with_max_length(tokens)?;
        Ok(Self {
            tokenizer,
            text_encoder,
            latent: LatentDiffusion::load(folder, device)?,
        })
    }

    /// A prompt's words and vectors, of as many tokens as the text encoder has positions.
    ///
    /// # Errors
    /// [`PipelineError`] for a text that the vocabulary cannot express.
    pub fn prompt(&self, text: &str) -> Result<Prompt, PipelineError> {
        let device = self.device();
        let encoded = self.tokenizer.encode(text)?;
        let length = Length::Exactly(self.tokens());
        let rows = [encoded.ids];
        let ids = self
            .tokenizer
            .fill(&rows, length, Side::Right, &device)?
            .ids;
        // Stable Diffusion was trained with all tokens, those that fill up included.
        let output = self.text_encoder.try_forward(EncoderInput::new(ids))?;
        Ok(Prompt {
            words: words(&encoded.tokens),
            embedding: output.last_hidden_state,
        })
    }

    /// Tokens of a prompt, with those that fill it up.
    pub fn tokens(&self) -> usize {
        self.text_encoder.config().max_positions
    }

    fn device(&self) -> Device {
        self.latent.unet.conv_in.weight.device()
    }
}

/// Refuses a folder whose `model_index.json` names another pipeline.
fn check_pipeline(folder: &Path) -> Result<(), CheckpointError> {
    let path = folder.join("model_index.json");
    let text = std::fs::read(&path).map_err(|error| CheckpointError::Unreadable {
        path: path.clone(),
        reason: error.to_string(),
    })?;
    let index: Value = serde_json::from_slice(&text).map_err(|error| CheckpointError::Config {
        path: path.clone(),
        reason: error.to_string(),
    })?;
    match index["_class_name"].as_str() {
        Some(CLASS) => Ok(()),
        other => Err(CheckpointError::Architecture {
            path,
            found: format!("the pipeline {}", other.unwrap_or("without a name")),
            accepted: vec![CLASS],
        }),
    }
}
