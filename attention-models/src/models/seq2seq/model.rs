use std::path::Path;

use attention_core::AttentionError;
use burn::module::{Initializer, Module, Param};
use burn::nn::{Embedding, EmbeddingConfig, Linear, LinearConfig};
use burn::tensor::{Device, Int, Tensor};

use super::{
    AudioFrontEnd, Memory, Seq2SeqConfig, Source, Stack, families, layer::SourceKeys,
    stack::for_all_queries,
};
use crate::models::checkpoint::{CheckpointError, Format, find};

/// An encoder-decoder; see the [module](super) for what it covers.
#[derive(Module, Debug)]
pub struct Seq2Seq {
    /// `[vocabulary, hidden_size]`, for source and target.
    pub embedding: Embedding,
    /// From sound to tokens.
    pub audio: Option<AudioFrontEnd>,
    /// Reads the source.
    pub encoder: Stack,
    /// Writes the target.
    pub decoder: Stack,
    /// From the decoder's output to logits; where absent, the embedding's transpose.
    pub head: Option<Linear>,
    /// `[vocabulary]`, added to the logits.
    pub logits_bias: Option<Param<Tensor<1>>>,
    #[module(skip)]
    pub(super) config: Seq2SeqConfig,
    /// Of the folder that was read.
    #[module(skip)]
    pub(super) format: Option<Format>,
}

impl Seq2SeqConfig {
    /// Makes a model with random weights.
    ///
    /// # Panics
    ///
    /// Panics with the message of [`try_init`](Self::try_init) where that refuses.
    pub fn init(&self, device: &Device) -> Seq2Seq {
        self.try_init(device)
            .unwrap_or_else(|error| panic!("{error}"))
    }

    /// As [`init`](Self::init).
    ///
    /// # Errors
    ///
    /// Sizes that [`validate`](Self::validate) refuses.
    pub fn try_init(&self, device: &Device) -> Result<Seq2Seq, AttentionError> {
        self.validate()?;
        let (vocabulary, width) = (self.vocabulary, self.hidden_size);
        let deviation = Initializer::Normal {
            mean: 0.0,
            std: (width as f64).powf(-0.5),
        };
        let head = LinearConfig::new(width, vocabulary).with_bias(false);
        Ok(Seq2Seq {
            embedding: EmbeddingConfig::new(vocabulary, width)
                .with_initializer(deviation)
                .init(device),
            audio: self
                .audio_channels
                .map(|channels| AudioFrontEnd::new(channels, width, device)),
            encoder: Stack::new(self, &self.encoder, false, device)?,
            decoder: Stack::new(self, &self.decoder, true, device)?,
            head: (!self.tied_head).then(|| head.init(device)),
            logits_bias: self
                .logits_bias
                .then(|| Initializer::Zeros.init([vocabulary], device)),
            config: self.clone(),
            format: None,
        })
    }
}

impl Seq2Seq {
    /// Reads a model folder: `config.json` and `model.safetensors` of transformers' T5, Marian, BART or Whisper.
    ///
    /// # Errors
    ///
    /// [`CheckpointError`]: a file that is missing, truncated or of another kind, another architecture, or every
    /// tensor that does not fit.
    pub fn load(place: impl AsRef<Path>, device: &Device) -> Result<Self, CheckpointError> {
        families::load(&find(place)?, device)
    }

    /// Writes the model as a folder like the one that it was read from, which transformers can read.
    ///
    /// # Errors
    ///
    /// [`CheckpointError`]: a folder that cannot be written, or a model that was not read from one.
    pub fn save(&self, folder: impl AsRef<Path>) -> Result<(), CheckpointError> {
        Format::of_read(&self.format, folder.as_ref())?.save(self, folder.as_ref())
    }

    /// The sizes and variants of this model.
    pub fn config(&self) -> &Seq2SeqConfig {
        &self.config
    }

    /// The logits of the token after each of `target` `[batch, seq]`: `[batch, seq, vocabulary]`.
    ///
    /// # Panics
    ///
    /// Panics with the message of [`try_forward`](Self::try_forward) where that refuses.
    pub fn forward(&self, source: Source, target: Tensor<2, Int>) -> Tensor<3> {
        self.try_forward(source, target)
            .unwrap_or_else(|error| panic!("{error}"))
    }

    /// As [`forward`](Self::forward).
    ///
    /// # Errors
    ///
    /// [`AttentionError::Shape`] for no tokens, more than the model has positions, or padding of another shape;
    /// [`AttentionError::Value`] for a token that the model does not know, or text where it takes sound.
    pub fn try_forward(
        &self,
        source: Source,
        target: Tensor<2, Int>,
    ) -> Result<Tensor<3>, AttentionError> {
        let memory = self.encode(source)?;
        let embedded = self.embed_target(target)?;
        let keys = self.source_keys(&memory);
        let states = self
            .decoder
            .forward(embedded, &self.decoder.input(None), &keys, None)?;
        Ok(self.logits(states))
    }

    /// Reads a source.
    ///
    /// # Errors
    ///
    /// As [`try_forward`](Self::try_forward).
    pub fn encode(&self, source: Source) -> Result<Memory, AttentionError> {
        let (embedded, padding) = self.embed_source(source)?;
        let input = self.encoder.input(padding.as_ref());
        Ok(Memory {
            states: self.encoder.forward(embedded, &input, &[], None)?,
            padding,
        })
    }

    /// The input of every layer of the encoder and its output: `layers + 1` tensors `[batch, source, hidden_size]`.
    ///
    /// # Errors
    ///
    /// As [`try_forward`](Self::try_forward).
    pub fn encoder_states(&self, source: Source) -> Result<Vec<Tensor<3>>, AttentionError> {
        let (embedded, padding) = self.embed_source(source)?;
        let input = self.encoder.input(padding.as_ref());
        self.encoder.states(embedded, &input, &[])
    }

    /// The input of every layer of the decoder and its output: `layers + 1` tensors `[batch, seq, hidden_size]`.
    ///
    /// # Errors
    ///
    /// As [`try_forward`](Self::try_forward).
    pub fn decoder_states(
        &self,
        target: Tensor<2, Int>,
        memory: &Memory,
    ) -> Result<Vec<Tensor<3>>, AttentionError> {
        let embedded = self.embed_target(target)?;
        let keys = self.source_keys(memory);
        self.decoder
            .states(embedded, &self.decoder.input(None), &keys)
    }

    /// How much each token of the target attends to each of the source in one layer of the decoder, given the layer's
    /// input: `[batch, heads, seq, source]`. An alignment of the two, to look at.
    ///
    /// # Errors
    ///
    /// [`AttentionError::Value`] for a layer that the decoder does not have.
    pub fn cross_attention_probabilities(
        &self,
        layer: usize,
        tokens: Tensor<3>,
        memory: &Memory,
    ) -> Result<Tensor<4>, AttentionError> {
        let refusal = || AttentionError::Value {
            argument: "layer",
            given: layer.to_string(),
            accepted: format!("0 to {}", self.decoder.layers.len() - 1),
        };
        let module = self.decoder.layers.get(layer).ok_or_else(refusal)?;
        let padding = memory.padding.as_ref().map(for_all_queries);
        let keys = module.source_keys(&memory.states, padding.as_ref());
        let keys = keys.ok_or_else(refusal)?;
        let map = module.cross_probabilities(tokens, &self.decoder.input(None), &keys)?;
        map.ok_or_else(refusal)
    }

    /// `[batch, seq, hidden_size]`, the decoder's output, to `[batch, seq, vocabulary]`.
    pub fn logits(&self, states: Tensor<3>) -> Tensor<3> {
        let states = match self.config.scaled_output {
            true => states.mul_scalar((self.config.hidden_size as f64).powf(-0.5)),
            false => states,
        };
        let logits = match &self.head {
            Some(head) => head.forward(states),
            None => states.matmul(self.embedding.weight.val().transpose().unsqueeze::<3>()),
        };
        match &self.logits_bias {
            Some(bias) => logits + bias.val().unsqueeze(),
            None => logits,
        }
    }

    /// Keys and values of the source for each layer of the decoder.
    pub(super) fn source_keys(&self, memory: &Memory) -> Vec<SourceKeys> {
        let padding = memory.padding.as_ref().map(for_all_queries);
        let layers = self.decoder.layers.iter();
        layers
            .filter_map(|layer| layer.source_keys(&memory.states, padding.as_ref()))
            .collect()
    }
}
