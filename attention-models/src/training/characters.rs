use std::path::Path;

use burn::nn::loss::CrossEntropyLossConfig;
use burn::tensor::{DType, Device, Int, Tensor, TensorData, activation::softmax};
use burn_train::metric::{PerplexityInput, PerplexityMetric};
use serde_json::{Map, Value, json};

use super::{Metric, Random, Task, Text, TrainingError};
use crate::models::blocks::{
    GatedMlpConfig, NormConfig, PositionEncoding, RotaryConfig, SelfAttentionConfig,
};
use crate::models::decoder::{Decoder, DecoderConfig, DecoderLayerConfig, FeedForwardConfig};
use crate::ops::AttentionError;

/// Windows of an evaluation's batch.
const TEST_BATCH: usize = 32;

/// A small Llama learns which character comes next.
#[derive(Debug, Clone)]
pub struct Characters {
    text: Text,
    config: DecoderConfig,
    context: usize,
    batch_size: usize,
    random: Random,
    device: Device,
}

impl Characters {
    /// Batches of `batch_size` windows of `context` characters, at places that follow from `seed`;
    /// data are put on `device`. A window is no longer than the shorter part of the text.
    pub fn new(text: Text, batch_size: usize, context: usize, seed: u64, device: &Device) -> Self {
        let shorter = text.train().len().min(text.held_out().len());
        let norm = NormConfig::Rms {
            epsilon: 1e-5,
            offset: 0.0,
        };
        let (width, heads) = (96, 3);
        let attention = SelfAttentionConfig::new(width, heads)
            .with_causal(true)
            .with_position(PositionEncoding::Rotary(RotaryConfig::new(width / heads)));
        let mlp = FeedForwardConfig::Gated(GatedMlpConfig::new(width, 256));
        let layer = DecoderLayerConfig::new(attention, mlp, norm);
        Self {
            config: DecoderConfig::new(text.alphabet().len(), vec![layer; 4], norm),
            context: context.clamp(1, shorter.saturating_sub(1).max(1)),
            batch_size: batch_size.max(1),
            random: Random::new(seed),
            device: device.clone(),
            text,
        }
    }

    /// The model.
    pub fn model(&self) -> &DecoderConfig {
        &self.config
    }

    /// Writes a trained model as a folder of a Llama that transformers reads, with a tokenizer whose
    /// tokens are characters.
    ///
    /// # Errors
    ///
    /// [`TrainingError::File`] for a folder that cannot be written.
    pub fn save(&self, model: &Decoder, folder: &Path) -> Result<(), TrainingError> {
        let refuse = |reason: String| TrainingError::file(folder, reason);
        model
            .save(folder)
            .map_err(|error| refuse(error.to_string()))?;
        let characters = self.text.alphabet().iter().enumerate();
        let vocabulary: Map<String, Value> = characters
            .map(|(number, character)| (character.to_string(), number.into()))
            .collect();
        let tokenizer = json!({
            "version": "1.0",
            "added_tokens": [],
            "decoder": { "type": "Fuse" },
            "model": { "type": "BPE", "vocab": vocabulary, "merges": [] },
        });
        // Without it, older transformers add Llama's own tokens.
        let loaded_by = json!({
            "tokenizer_class": "PreTrainedTokenizerFast",
            "clean_up_tokenization_spaces": false,
        });
        for (file, json) in [
            ("tokenizer.json", tokenizer),
            ("tokenizer_config.json", loaded_by),
        ] {
            std::fs::write(folder.join(file), format!("{json:#}\n"))
                .map_err(|error| refuse(error.to_string()))?;
        }
        Ok(())
    }

    /// Lets a model write `length` characters: the same for the same `seed`.
    ///
    /// # Errors
    ///
    /// Those of [`Decoder::try_forward`].
    pub fn write(
        &self,
        model: &Decoder,
        length: usize,
        seed: u64,
    ) -> Result<String, AttentionError> {
        let mut random = Random::new(seed);
        let mut written = vec![i32::from(self.text.held_out()[0])];
        for _ in 0..length {
            let seen = &written[written.len().saturating_sub(self.context)..];
            let tokens = TensorData::new(seen.to_vec(), [1, seen.len()]);
            let logits = model.try_forward(Tensor::from_data(tokens, &self.device), None)?;
            let last = logits.slice_dim(1, seen.len() - 1..seen.len());
            let probabilities = softmax(last.cast(DType::F32), 2).into_data();
            // The character at which the sum of probabilities passes a random number.
            let mut rest = random.uniform();
            let passed = probabilities.iter::<f32>().position(|probability| {
                rest -= probability;
                rest < 0.0
            });
            written.push(passed.unwrap_or(0) as i32);
        }
        let alphabet = self.text.alphabet();
        Ok(written
            .iter()
            .map(|token| alphabet[*token as usize])
            .collect())
    }

    /// Windows of `context` characters, and the characters that follow each: `[windows, context]`.
    fn windows(&self, part: &[u8], starts: &[usize], device: &Device) -> [Tensor<2, Int>; 2] {
        [0, 1].map(|ahead| {
            let tokens = starts.iter().flat_map(|start| {
                let window = &part[start + ahead..start + ahead + self.context];
                window.iter().map(|token| i32::from(*token))
            });
            let shape = [starts.len(), self.context];
            Tensor::from_data(TensorData::new(tokens.collect::<Vec<_>>(), shape), device)
        })
    }

    /// The mean surprise of the characters that follow, in nats.
    fn nats(&self, model: &Decoder, windows: [Tensor<2, Int>; 2]) -> Tensor<1> {
        let (logits, next) = predicted(model, windows);
        let loss = CrossEntropyLossConfig::new().init(&logits.device());
        loss.forward(logits, next)
    }
}

/// What the model thinks of each character that follows, `[places, characters]`, and which it is.
fn predicted(model: &Decoder, [tokens, next]: [Tensor<2, Int>; 2]) -> (Tensor<2>, Tensor<1, Int>) {
    let logits = model.forward(tokens).cast(DType::F32);
    let [batch, context, characters] = logits.dims();
    let logits = logits.reshape([batch * context, characters]);
    (logits, next.reshape([batch * context]))
}

impl Task for Characters {
    type Model = Decoder;

    fn describe(&self) -> String {
        let config = serde_json::to_string(&self.config).unwrap_or_default();
        format!(
            "characters, {} to train on, {} held out, batch {}, context {}, {config}",
            self.text.train().len(),
            self.text.held_out().len(),
            self.batch_size,
            self.context
        )
    }

    fn init(&self, device: &Device) -> Decoder {
        self.config.init(device)
    }

    fn loss(&self, model: &Decoder, step: usize) -> Tensor<1> {
        let mut random = self.random.fork(step as u64);
        let places = self.text.train().len() - self.context;
        let starts: Vec<usize> = (0..self.batch_size).map(|_| random.below(places)).collect();
        let device = self.device.clone().autodiff();
        self.nats(model, self.windows(self.text.train(), &starts, &device))
    }

    /// The mean over windows of the held-out text that lie one behind the other.
    fn evaluate(&self, model: &Decoder) -> Result<Vec<Metric>, TrainingError> {
        let part = self.text.held_out();
        let windows = (part.len() - 1) / self.context;
        let starts: Vec<usize> = (0..windows).map(|window| window * self.context).collect();
        let batches = starts.chunks(TEST_BATCH).map(|starts| {
            let windows = self.windows(part, starts, &self.device);
            let (logits, next) = predicted(model, windows);
            PerplexityInput::new(logits, next)
        });
        let perplexity = Metric::measured(PerplexityMetric::new(), batches)?;
        let nats = Metric::new("nats per character", perplexity.value.ln());
        Ok(vec![nats, perplexity])
    }
}
