use std::path::Path;

use attention_core::AttentionError;
use burn::module::Module;
use burn::nn::{Embedding, EmbeddingConfig, Linear, LinearConfig};
use burn::tensor::{Bool, Device, Int, Tensor};

use super::{DecoderConfig, DecoderLayer, families};
use crate::models::blocks::{AttentionInput, Norm, PositionEncoding, Positions, linear, product};
use crate::models::cache::KvCache;
use crate::models::checkpoint::{CheckpointError, Format, find};
use crate::models::generation::{GenerationState, LanguageModel, Prompt};

/// A model of the next token; see the [module](super) for what it covers.
#[derive(Module, Debug)]
pub struct Decoder {
    /// `[vocabulary, hidden_size]`
    pub embedding: Embedding,
    /// `[learned_positions, hidden_size]`
    pub positions: Option<Embedding>,
    /// Of the embeddings.
    pub embedding_norm: Option<Norm>,
    /// The stack.
    pub layers: Vec<DecoderLayer>,
    /// After the last layer.
    pub norm: Norm,
    /// `hidden_size -> vocabulary`; without it, the embeddings take its place.
    pub head: Option<Linear>,
    #[module(skip)]
    config: DecoderConfig,
    /// Of the folder that it was read from.
    #[module(skip)]
    pub(super) format: Option<Format>,
}

impl DecoderConfig {
    /// Makes a model with random weights.
    ///
    /// # Panics
    /// Panics with the message of [`try_init`](Self::try_init) where that refuses.
    pub fn init(&self, device: &Device) -> Decoder {
        self.try_init(device)
            .unwrap_or_else(|error| panic!("{error}"))
    }

    /// As [`init`](Self::init).
    ///
    /// # Errors
    /// Sizes that [`validate`](Self::validate) refuses.
    pub fn try_init(&self, device: &Device) -> Result<Decoder, AttentionError> {
        self.validate()?;
        let width = self.hidden_size();
        let head = LinearConfig::new(width, self.vocabulary).with_bias(false);
        let layers = self.layers.iter();
        Ok(Decoder {
            embedding: EmbeddingConfig::new(self.vocabulary, width).init(device),
            positions: self
                .learned_positions
                .map(|count| EmbeddingConfig::new(count, width).init(device)),
            embedding_norm: self.embedding_norm.map(|norm| norm.init(width, device)),
            layers: layers
                .map(|layer| DecoderLayer::new(layer, device))
                .collect::<Result<_, _>>()?,
            norm: self.norm.init(width, device),
            head: (!self.tied_head).then(|| head.init(device)),
            config: self.clone(),
            format: None,
        })
    }
}

impl Decoder {
    /// Reads a model folder, `config.json` and `model.safetensors` of the causal language models of
    /// transformers that the [module](super) names, or a GGUF file of a Llama.
    ///
    /// # Errors
    /// [`CheckpointError`]: a file that is missing, truncated or of another kind, another
    /// architecture, or every tensor that does not fit.
    pub fn load(place: impl AsRef<Path>, device: &Device) -> Result<Self, CheckpointError> {
        families::load(&find(place)?, device)
    }

    /// Writes the model as a folder like the one that it was read from, which transformers can read;
    /// one that was made, as `LlamaForCausalLM`.
    ///
    /// # Errors
    /// [`CheckpointError`]: a folder that cannot be written, or a model that was made and is no Llama.
    pub fn save(&self, folder: impl AsRef<Path>) -> Result<(), CheckpointError> {
        let format = match &self.format {
            Some(format) => format.clone(),
            None => families::llama_format(&self.config, folder.as_ref())?,
        };
        format.save(self, folder.as_ref())
    }

    /// The sizes and variants of this model.
    pub fn config(&self) -> &DecoderConfig {
        &self.config
    }

    /// The logits of the token after each, `[batch, seq, vocabulary]`, of token ids `[batch, seq]` below
    /// the size of the vocabulary.
    ///
    /// # Panics
    /// Panics with the message of [`try_forward`](Self::try_forward) where that refuses.
    pub fn forward(&self, tokens: Tensor<2, Int>) -> Tensor<3> {
        self.try_forward(tokens, None)
            .unwrap_or_else(|error| panic!("{error}"))
    }

    /// As [`forward`](Self::forward), with tokens that are hidden from all where `padding` `[batch, seq]`
    /// is `true`.
    ///
    /// # Errors
    /// [`AttentionError::Shape`] for more tokens than there are learned positions, or padding of
    /// another shape.
    pub fn try_forward(
        &self,
        tokens: Tensor<2, Int>,
        padding: Option<Tensor<2, Bool>>,
    ) -> Result<Tensor<3>, AttentionError> {
        let (mut hidden, input) = self.start(tokens, padding)?;
        for layer in &self.layers {
            hidden = layer.forward(hidden, &input, None)?;
        }
        Ok(self.logits(self.norm.forward(hidden)))
    }

    /// The input of every layer and the normalised output of the last: `layers + 1` tensors
    /// `[batch, seq, hidden_size]`.
    ///
    /// # Errors
    /// As [`try_forward`](Self::try_forward).
    pub fn hidden_states(
        &self,
        tokens: Tensor<2, Int>,
        padding: Option<Tensor<2, Bool>>,
    ) -> Result<Vec<Tensor<3>>, AttentionError> {
        let (hidden, input) = self.start(tokens, padding)?;
        let mut states = vec![hidden];
        for (index, layer) in self.layers.iter().enumerate() {
            states.push(layer.forward(states[index].clone(), &input, None)?);
        }
        let last = states.pop().map(|last| self.norm.forward(last));
        states.extend(last);
        Ok(states)
    }

    /// The input of the first layer, and what all layers are given beside it.
    ///
    /// # Errors
    /// As [`try_forward`](Self::try_forward).
    pub fn start(
        &self,
        tokens: Tensor<2, Int>,
        padding: Option<Tensor<2, Bool>>,
    ) -> Result<(Tensor<3>, AttentionInput), AttentionError> {
        let (shape, device) = (tokens.dims(), tokens.device());
        let positions = Positions::range(0..shape[1]);
        let hidden = self.embed(tokens, &positions)?;
        let input = AttentionInput::new(self.attentions(), &positions, &device);
        match padding {
            None => Ok((hidden, input)),
            Some(padding) if padding.dims() == shape => Ok((hidden, input.with_padding(padding))),
            Some(padding) => Err(AttentionError::Shape {
                argument: "padding",
                given: padding.dims().to_vec(),
                accepted: format!("{shape:?}, as the tokens"),
            }),
        }
    }

    /// Logits `[batch, seq, vocabulary]` of the normalised output of the last layer.
    pub fn logits(&self, hidden: Tensor<3>) -> Tensor<3> {
        let logits = match &self.head {
            Some(head) => linear(head, hidden),
            None => product(hidden, self.embedding.weight.val().transpose()),
        };
        match self.config.logit_softcap {
            Some(cap) => logits.div_scalar(cap).tanh().mul_scalar(cap),
            None => logits,
        }
    }

    /// An empty cache for `prompt` and `new_tokens` after it. Layers with a window keep only that.
    ///
    /// # Errors
    /// [`AttentionError::Shape`] for a prompt longer than the learned positions,
    /// [`AttentionError::Value`] for a token beyond the vocabulary.
    pub fn cache(&self, prompt: &Prompt, new_tokens: usize) -> Result<KvCache, AttentionError> {
        let mut tokens = prompt.rows().iter().flatten();
        let unknown = tokens.find(|token| !(0..self.config.vocabulary as i64).contains(*token));
        if let Some(token) = unknown {
            return Err(AttentionError::Value {
                argument: "prompt",
                given: format!("token {token}"),
                accepted: format!("tokens below {}", self.config.vocabulary),
            });
        }
        self.check_positions(
            "prompt",
            [prompt.rows().len(), prompt.length()],
            prompt.length(),
        )?;
        let window = |layer: &DecoderLayer| {
            let config = layer.attention.config();
            let in_order = matches!(config.position, PositionEncoding::Alibi { .. });
            config
                .window
                .filter(|_| !in_order)
                .map(|window| window.before + 1)
        };
        let windows = self.layers.iter().map(window);
        KvCache::new(windows, prompt.length() + new_tokens)
            .with_left_padding(prompt.padding(), &self.device())
    }

    fn embed(
        &self,
        tokens: Tensor<2, Int>,
        positions: &Positions,
    ) -> Result<Tensor<3>, AttentionError> {
        self.check_positions("tokens", tokens.dims(), positions.end())?;
        let device = tokens.device();
        let mut hidden = self.embedding.forward(tokens);
        if let Some(scale) = self.config.embedding_scale {
            hidden = hidden.mul_scalar(scale);
        }
        if let Some(table) = &self.positions {
            hidden = hidden + table.forward(positions.ids(&device));
        }
        Ok(match &self.embedding_norm {
            Some(norm) => norm.forward(hidden),
            None => hidden,
        })
    }

    fn check_positions(
        &self,
        argument: &'static str,
        shape: [usize; 2],
        end: usize,
    ) -> Result<(), AttentionError> {
        match self.config.learned_positions {
            Some(count) if end > count => Err(AttentionError::Shape {
                argument,
                given: shape.to_vec(),
                accepted: format!(
                    "sequences that end at position {count}, the last that was learned; these end at \
                     {end}"
                ),
            }),
            _ => Ok(()),
        }
    }

    fn attentions(&self) -> impl Iterator<Item = &crate::models::blocks::SelfAttention> {
        self.layers.iter().map(|layer| &layer.attention)
    }
}

impl LanguageModel for Decoder {
    type State = KvCache;

    fn next_logits(
        &self,
        tokens: Tensor<2, Int>,
        cache: &mut KvCache,
    ) -> Result<Tensor<2>, AttentionError> {
        let device = tokens.device();
        let new = tokens.dims()[1];
        let positions = cache.next_positions(tokens.dims())?;
        let mut hidden = self.embed(tokens, &positions)?;
        let input = AttentionInput::new(self.attentions(), &positions, &device);
        for (layer, cache) in self.layers.iter().zip(cache.layers()) {
            hidden = layer.forward(hidden, &input, Some(cache))?;
        }
        let last = hidden.slice_dim(1, new.saturating_sub(1)..new);
        Ok(self.logits(self.norm.forward(last)).squeeze_dim::<2>(1))
    }

    fn device(&self) -> Device {
        self.embedding.weight.device()
    }
}

impl GenerationState for KvCache {
    fn select(&mut self, rows: &[usize]) {
        KvCache::select(self, rows);
    }
}
