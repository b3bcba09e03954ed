use attention_core::{AttentionError, MAX_HEAD_DIM};
use burn::config::Config;
use burn::tensor::Device;
use serde::{Deserialize, Serialize};

use crate::models::blocks::{
    Activation, FeedForward, Gate, GatedMlpConfig, MlpConfig, PositionEncoding, RotaryConfig,
    RotaryPairs, SelfAttentionConfig, Window,
};

/// How a token knows its position.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Positions {
    /// A learned vector for each position is added to the embedding.
    Learned,
    /// Not at all.
    None,
    /// Queries and keys are turned by their position.
    Rotary {
        /// Which numbers are turned together.
        pairs: RotaryPairs,
        /// The base of the wave lengths.
        theta: f64,
    },
}

/// Where the norms of a layer stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NormPlacement {
    /// After the sum, as in the first Transformer: `norm(x + f(x))`.
    After,
    /// Before the branch: `x + f(norm(x))`.
    Before,
}

/// How a sequence becomes one vector.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Pooling {
    /// Not at all.
    None,
    /// A linear layer and `tanh` on the first token (BERT).
    FirstToken,
    /// The token at the first end-of-text token (CLIP).
    EndOfText {
        /// Its number. `None`: the end-of-text token is the largest number of the sequence, as it is in
        /// configurations of before 2023, which name another.
        token: Option<usize>,
    },
}

/// The layers that see only a window (ModernBERT).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LocalLayers {
    /// Which layers are local.
    pub layers: Vec<bool>,
    /// How many tokens a token sees on each side.
    pub reach: usize,
    /// The base of their wave lengths.
    pub theta: f64,
}

/// The sizes and variants of an [`Encoder`](super::Encoder).
///
/// ```
/// use attention_models::models::encoder::{EncoderConfig, EncoderInput};
/// use burn::tensor::{Device, Tensor};
///
/// // vocabulary, positions, width, layers, heads, width of the MLP
/// let device = Device::flex();
/// let model = EncoderConfig::new(100, 64, 32, 2, 4, 64).init(&device);
/// let output = model.forward(EncoderInput::new(Tensor::from_data([[5, 8, 13]], &device)));
/// assert_eq!(output.last_hidden_state.dims(), [1, 3, 32]);
/// ```
#[derive(Config, Debug, PartialEq)]
pub struct EncoderConfig {
    /// How many tokens there are.
    pub vocabulary: usize,
    /// The longest sequence.
    pub max_positions: usize,
    /// Width of a token.
    pub hidden_size: usize,
    /// How many layers run.
    pub layers: usize,
    /// Attention heads in each layer.
    pub heads: usize,
    /// Width of the MLP's inner layer.
    pub mlp_size: usize,
    /// How a token knows its position.
    #[config(default = "Positions::Learned")]
    pub positions: Positions,
    /// Segments with an embedding of their own; none without.
    #[config(default = 0)]
    pub segments: usize,
    /// Width of the embeddings, where a linear layer brings them to the hidden size (ALBERT).
    #[config(default = "None")]
    pub embedding_size: Option<usize>,
    /// Whether the embeddings are normalised.
    #[config(default = true)]
    pub embedding_norm: bool,
    /// Layers with weights of their own, where several runs share them (ALBERT).
    #[config(default = "None")]
    pub distinct_layers: Option<usize>,
    /// The layers that see a window.
    #[config(default = "None")]
    pub local: Option<LocalLayers>,
    /// Whether a token sees only those before it and itself (CLIP).
    #[config(default = false)]
    pub causal: bool,
    /// Where the norms of a layer stand.
    #[config(default = "NormPlacement::After")]
    pub norm_placement: NormPlacement,
    /// Whether the first layer's attention has a norm before it, where norms stand before.
    #[config(default = true)]
    pub first_norm: bool,
    /// Whether norms have a bias.
    #[config(default = true)]
    pub norm_bias: bool,
    /// Added to the variance in every norm.
    #[config(default = 1e-12)]
    pub norm_epsilon: f64,
    /// A norm after the last layer.
    #[config(default = false)]
    pub final_norm: bool,
    /// Whether the projections of attention have a bias.
    #[config(default = true)]
    pub attention_bias: bool,
    /// Whether the layers of the MLP have a bias.
    #[config(default = true)]
    pub mlp_bias: bool,
    /// Whether the MLP is gated (ModernBERT's GeGLU).
    #[config(default = false)]
    pub gated: bool,
    /// The nonlinearity of the MLP.
    #[config(default = "Activation::Gelu")]
    pub activation: Activation,
    /// How a sequence becomes one vector.
    #[config(default = "Pooling::None")]
    pub pooling: Pooling,
    /// Width of the projection of the pooled vector (CLIP).
    #[config(default = "None")]
    pub projection: Option<usize>,
}

impl EncoderConfig {
    /// Refuses sizes from which no model can be made.
    ///
    /// # Errors
    ///
    /// [`AttentionError::Value`] for a size of 0, heads that do not divide the hidden size or are wider than 256,
    /// distinct layers that do not divide the layers, rotary positions in heads of odd width, or a list of local
    /// layers of another length.
    pub fn validate(&self) -> Result<(), AttentionError> {
        check_sizes(&[
            ("vocabulary", self.vocabulary),
            ("max_positions", self.max_positions),
            ("hidden_size", self.hidden_size),
            ("layers", self.layers),
            ("mlp_size", self.mlp_size),
        ])?;
        check_heads(self.heads, self.hidden_size)?;
        let distinct = self.distinct_layers();
        if distinct == 0 || !self.layers.is_multiple_of(distinct) {
            let accepted = format!("a divisor of the {} layers", self.layers);
            return refuse("distinct_layers", distinct, accepted);
        }
        let rotary = matches!(self.positions, Positions::Rotary { .. });
        if rotary && !self.head_dim().is_multiple_of(2) {
            let accepted = "heads of even width, for rotary positions".to_string();
            return refuse("heads", self.heads, accepted);
        }
        match &self.local {
            Some(local) if local.layers.len() != self.layers => {
                let accepted = format!("one entry for each of the {} layers", self.layers);
                refuse("local", local.layers.len(), accepted)
            }
            _ => Ok(()),
        }
    }

    /// Width of one head.
    pub fn head_dim(&self) -> usize {
        self.hidden_size / self.heads
    }

    /// The attention of one layer that runs.
    pub(super) fn attention(&self, layer: usize) -> SelfAttentionConfig {
        let local = self.local.as_ref();
        let local = local.filter(|local| local.layers[layer]);
        let position = match self.positions {
            Positions::Learned | Positions::None => PositionEncoding::None,
            Positions::Rotary { pairs, theta } => {
                let theta = local.map_or(theta, |local| local.theta);
                let rotary = RotaryConfig::new(self.head_dim());
                PositionEncoding::Rotary(rotary.with_theta(theta).with_pairs(pairs))
            }
        };
        SelfAttentionConfig::new(self.hidden_size, self.heads)
            .with_input_bias(self.attention_bias)
            .with_output_bias(self.attention_bias)
            .with_causal(self.causal)
            .with_position(position)
            .with_window(local.map(|local| Window {
                before: local.reach,
                after: local.reach,
            }))
    }

    /// The MLP of every layer.
    pub(super) fn feed_forward(&self, device: &Device) -> FeedForward {
        let (width, inner) = (self.hidden_size, self.mlp_size);
        if self.gated {
            let config = GatedMlpConfig::new(width, inner).with_bias(self.mlp_bias);
            let gate = Gate::Activation(self.activation);
            return FeedForward::Gated(config.with_gate(gate).init(device));
        }
        let config = MlpConfig::new(width, inner).with_bias(self.mlp_bias);
        FeedForward::Plain(config.with_activation(self.activation).init(device))
    }

    /// Layers that have weights.
    pub(super) fn distinct_layers(&self) -> usize {
        self.distinct_layers.unwrap_or(self.layers)
    }
}

/// Refuses sizes of 0.
pub(in crate::models) fn check_sizes(
    sizes: &[(&'static str, usize)],
) -> Result<(), AttentionError> {
    match sizes.iter().find(|(_, size)| *size == 0) {
        Some((argument, size)) => refuse(argument, *size, "at least 1".into()),
        None => Ok(()),
    }
}

/// Refuses heads that do not divide the width, or are too wide.
pub(in crate::models) fn check_heads(heads: usize, width: usize) -> Result<(), AttentionError> {
    if heads == 0 || !width.is_multiple_of(heads) {
        return refuse("heads", heads, format!("a divisor of the width {width}"));
    }
    if width / heads > MAX_HEAD_DIM {
        let accepted = format!("enough that a head is at most {MAX_HEAD_DIM} wide");
        return refuse("heads", heads, accepted);
    }
    Ok(())
}

fn refuse<T>(argument: &'static str, given: usize, accepted: String) -> Result<T, AttentionError> {
    Err(AttentionError::Value {
        argument,
        given: given.to_string(),
        accepted,
    })
}
