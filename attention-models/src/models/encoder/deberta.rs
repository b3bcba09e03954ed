use std::path::Path;

use attention_core::AttentionError;
use burn::config::Config;
use burn::module::Module;
use burn::nn::{Embedding, EmbeddingConfig, LayerNorm, LayerNormConfig};
use burn::tensor::{Bool, Device, Tensor};

use super::{
    DisentangledAttention, EncoderConfig, EncoderInput, EncoderOutput, Positions, TextEmbeddings,
    attending::{Blind, context, probabilities},
    config::{check_heads, check_sizes},
    families,
};
use crate::models::blocks::{Activation, Mlp, MlpConfig};
use crate::models::checkpoint::{CheckpointError, Format, find};

/// The sizes and variants of a [`Deberta`].
///
/// ```
/// use attention_models::models::encoder::{DebertaConfig, EncoderInput};
/// use burn::tensor::{Device, Tensor};
///
/// // vocabulary, positions, width, layers, heads, width of the MLP
/// let device = Device::flex();
/// let model = DebertaConfig::new(100, 64, 32, 2, 4, 64).init(&device);
/// let output = model.forward(EncoderInput::new(Tensor::from_data([[5, 8, 13]], &device)));
/// assert_eq!(output.last_hidden_state.dims(), [1, 3, 32]);
/// ```
#[derive(Config, Debug, PartialEq)]
pub struct DebertaConfig {
    /// How many tokens there are.
    pub vocabulary: usize,
    /// The longest sequence, where positions are added to the embeddings, and the distance from which on all share a
    /// learned vector.
    pub max_distance: usize,
    /// Width of a token.
    pub hidden_size: usize,
    /// Number of layers.
    pub layers: usize,
    /// Attention heads in each layer.
    pub heads: usize,
    /// Width of the MLP's inner layer.
    pub mlp_size: usize,
    /// Learned vectors for distances in one direction; 0: one for each distance.
    #[config(default = 0)]
    pub position_buckets: usize,
    /// Whether learned positions are added to the embeddings too: how many.
    #[config(default = "None")]
    pub absolute_positions: Option<usize>,
    /// Segments with an embedding of their own; none without.
    #[config(default = 0)]
    pub segments: usize,
    /// Whether the learned distances go through the content's projections.
    #[config(default = true)]
    pub shared_projections: bool,
    /// Whether the learned distances are normalised.
    #[config(default = true)]
    pub distance_norm: bool,
    /// The nonlinearity of the MLP.
    #[config(default = "Activation::Gelu")]
    pub activation: Activation,
    /// Added to the variance in every norm.
    #[config(default = 1e-7)]
    pub norm_epsilon: f64,
}

/// DeBERTa-v2 and v3 (<https://arxiv.org/abs/2006.03654>, <https://arxiv.org/abs/2111.09543>): BERT, with attention
/// in which content and distance are two vectors ([`DisentangledAttention`]).
#[derive(Module, Debug)]
pub struct Deberta {
    /// From tokens to vectors.
    pub embeddings: TextEmbeddings,
    /// What is learned for each distance, `[2 * span, hidden_size]`; all layers share it.
    pub distances: Embedding,
    /// Of the learned distances.
    pub distance_norm: Option<LayerNorm>,
    /// The stack.
    pub layers: Vec<DebertaLayer>,
    #[module(skip)]
    config: DebertaConfig,
    /// Of the folder that was read.
    #[module(skip)]
    pub(super) format: Option<Format>,
}

/// One layer: attention, then an MLP on each token, norms after both sums.
#[derive(Module, Debug)]
pub struct DebertaLayer {
    /// Self-attention.
    pub attention: DisentangledAttention,
    /// After attention and its residual.
    pub norm_attention: LayerNorm,
    /// On each token.
    pub mlp: Mlp,
    /// After the MLP and its residual.
    pub norm_mlp: LayerNorm,
}

impl DebertaConfig {
    /// Learned distances in one direction.
    pub fn span(&self) -> usize {
        match self.position_buckets {
            0 => self.max_distance,
            buckets => buckets,
        }
    }

    /// Makes a model with random weights.
    ///
    /// # Panics
    ///
    /// Panics with the message of [`try_init`](Self::try_init) where that refuses.
    pub fn init(&self, device: &Device) -> Deberta {
        self.try_init(device)
            .unwrap_or_else(|error| panic!("{error}"))
    }

    /// As [`init`](Self::init).
    ///
    /// # Errors
    ///
    /// [`AttentionError::Value`] for a size of 0, and heads that do not divide the hidden size or are wider than
    /// 256.
    pub fn try_init(&self, device: &Device) -> Result<Deberta, AttentionError> {
        check_sizes(&[
            ("vocabulary", self.vocabulary),
            ("max_distance", self.max_distance),
            ("hidden_size", self.hidden_size),
            ("layers", self.layers),
            ("mlp_size", self.mlp_size),
        ])?;
        check_heads(self.heads, self.hidden_size)?;
        let norm = || {
            let norm = LayerNormConfig::new(self.hidden_size).with_epsilon(self.norm_epsilon);
            norm.init(device)
        };
        let layer = |_| DebertaLayer {
            attention: DisentangledAttention::new(self, device),
            norm_attention: norm(),
            mlp: MlpConfig::new(self.hidden_size, self.mlp_size)
                .with_activation(self.activation)
                .init(device),
            norm_mlp: norm(),
        };
        Ok(Deberta {
            embeddings: self.embeddings(device),
            distances: EmbeddingConfig::new(2 * self.span(), self.hidden_size).init(device),
            distance_norm: self.distance_norm.then(norm),
            layers: (0..self.layers).map(layer).collect(),
            config: self.clone(),
            format: None,
        })
    }

    fn embeddings(&self, device: &Device) -> TextEmbeddings {
        let mut config = EncoderConfig::new(
            self.vocabulary,
            self.absolute_positions.unwrap_or(1),
            self.hidden_size,
            self.layers,
            self.heads,
            self.mlp_size,
        )
        .with_segments(self.segments)
        .with_norm_epsilon(self.norm_epsilon);
        if self.absolute_positions.is_none() {
            config.positions = Positions::None;
        }
        TextEmbeddings::new(&config, device)
    }
}

impl Deberta {
    /// Reads a model folder: `config.json` and `model.safetensors` of transformers' DeBERTa-v2.
    ///
    /// # Errors
    ///
    /// [`CheckpointError`]: a file that is missing, truncated or of another kind, another architecture, or every
    /// tensor that does not fit.
    pub fn load(place: impl AsRef<Path>, device: &Device) -> Result<Self, CheckpointError> {
        families::load_deberta(&find(place)?, device)
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
    pub fn config(&self) -> &DebertaConfig {
        &self.config
    }

    /// Runs the model.
    ///
    /// # Panics
    ///
    /// Panics with the message of [`try_forward`](Self::try_forward) where that refuses.
    pub fn forward(&self, input: EncoderInput) -> EncoderOutput {
        self.try_forward(input)
            .unwrap_or_else(|error| panic!("{error}"))
    }

    /// As [`forward`](Self::forward); nothing is pooled.
    ///
    /// # Errors
    ///
    /// [`AttentionError::Shape`] for no tokens, more than there are positions, or padding and segments of another
    /// shape; [`AttentionError::Value`] for a token or segment that the model does not know.
    pub fn try_forward(&self, input: EncoderInput) -> Result<EncoderOutput, AttentionError> {
        let states = self.hidden_states(&input)?;
        let last = states.into_iter().next_back();
        Ok(EncoderOutput {
            last_hidden_state: last.expect("invariant: the embeddings are a state"),
            pooled: None,
            projected: None,
            padding: input.padding,
        })
    }

    /// The input of every layer and the output of the last: `layers + 1` tensors `[batch, seq, hidden_size]`.
    ///
    /// # Errors
    ///
    /// As [`try_forward`](Self::try_forward).
    pub fn hidden_states(&self, input: &EncoderInput) -> Result<Vec<Tensor<3>>, AttentionError> {
        let config = &self.config;
        let positions = config.absolute_positions.unwrap_or(usize::MAX);
        input.check(config.vocabulary, config.segments, positions)?;
        let mut tokens = self.embeddings.forward(input);
        if let Some(padding) = &input.padding {
            let shape = tokens.dims();
            let padded = padding.clone().unsqueeze_dim::<3>(2).expand(shape);
            tokens = tokens.mask_fill(padded, 0.0);
        }
        let distances = self.learned_distances();
        let mut states = vec![tokens];
        for (index, layer) in self.layers.iter().enumerate() {
            let tokens = states[index].clone();
            states.push(layer.forward(tokens, distances.clone(), input.padding.as_ref())?);
        }
        Ok(states)
    }

    /// Who attends to whom in one layer, `[batch, heads, seq, seq]`, given the layer's input: to look at.
    ///
    /// # Errors
    ///
    /// [`AttentionError::Value`] for a layer that the model does not have.
    pub fn attention_probabilities(
        &self,
        layer: usize,
        tokens: Tensor<3>,
        input: &EncoderInput,
    ) -> Result<Tensor<4>, AttentionError> {
        let Some(layer) = self.layers.get(layer) else {
            return Err(AttentionError::Value {
                argument: "layer",
                given: layer.to_string(),
                accepted: format!("0 to {}", self.layers.len() - 1),
            });
        };
        let padding = input.padding.as_ref();
        let distances = self.learned_distances();
        let projected = layer.attention.project(tokens, distances, padding);
        probabilities(projected, &blind(padding))
    }

    fn learned_distances(&self) -> Tensor<2> {
        let learned = self.distances.weight.val();
        match &self.distance_norm {
            Some(norm) => norm.forward(learned),
            None => learned,
        }
    }
}

impl DebertaLayer {
    fn forward(
        &self,
        tokens: Tensor<3>,
        distances: Tensor<2>,
        padding: Option<&Tensor<2, Bool>>,
    ) -> Result<Tensor<3>, AttentionError> {
        let projected = self.attention.project(tokens.clone(), distances, padding);
        let context = context(projected, &blind(padding))?;
        let attended = self.attention.content.output.forward(context);
        let tokens = self.norm_attention.forward(tokens + attended);
        let mixed = self.mlp.forward(tokens.clone());
        Ok(self.norm_mlp.forward(tokens + mixed))
    }
}

/// DeBERTa hides all keys from padding.
fn blind(padding: Option<&Tensor<2, Bool>>) -> Blind {
    padding.map_or(Blind::None, |padding| Blind::Rows(padding.clone()))
}
