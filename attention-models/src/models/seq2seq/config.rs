use attention_core::{AttentionError, AttentionSpec, CausalAlignment, MAX_HEAD_DIM};
use burn::config::Config;
use burn::tensor::Device;
use serde::{Deserialize, Serialize};

use super::GenerationDefaults;
use crate::models::blocks::{
    Activation, FeedForward, Gate, GatedMlpConfig, MlpConfig, Norm, NormConfig,
};
use crate::models::encoder::{NormPlacement, check_heads, check_sizes};
use crate::nn::{MultiHeadAttention, MultiHeadAttentionConfig};

/// How tokens know their positions.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SequencePositions {
    /// Sines and cosines of the position are added to the embedding.
    Sinusoidal {
        /// A sine, its cosine, the next sine and so on (Vaswani); else all sines, then all cosines (Marian).
        interleaved: bool,
    },
    /// A learned vector for each position is added to the embedding.
    Learned {
        /// Rows of the table before position 0, which nothing uses: 2 for BART.
        first: usize,
    },
    /// A learned number for each head and bucket of distances is added to the scores (T5).
    Relative {
        /// How many buckets there are.
        buckets: usize,
        /// The distance from which on all share the last bucket.
        max_distance: usize,
    },
}

/// Which projections of attention have a bias.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AttentionBias {
    /// All.
    All,
    /// All but that to keys (Whisper).
    ExceptKey,
    /// None (T5).
    None,
}

/// The sizes of an encoder or a decoder.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StackConfig {
    /// Number of layers.
    pub layers: usize,
    /// Attention heads in each layer.
    pub heads: usize,
    /// Width of the MLP's inner layer.
    pub mlp_size: usize,
    /// The longest sequence; any without it.
    pub max_positions: Option<usize>,
}

/// The sizes and variants of a [`Seq2Seq`](super::Seq2Seq). The defaults are the Transformer's of Vaswani et al. 2017.
///
/// ```
/// use attention_models::models::seq2seq::{Seq2SeqConfig, Source, StackConfig};
/// use burn::tensor::{Device, Tensor};
///
/// let device = Device::flex();
/// let stack = StackConfig { layers: 2, heads: 4, mlp_size: 64, max_positions: None };
/// let model = Seq2SeqConfig::new(100, 32, stack.clone(), stack).init(&device);
/// let source = Source::text(Tensor::from_data([[5, 6, 7, 8]], &device));
/// let target = Tensor::from_data([[1, 9, 10]], &device);
/// assert_eq!(model.forward(source, target).dims(), [1, 3, 100]);
/// ```
#[derive(Config, Debug, PartialEq)]
pub struct Seq2SeqConfig {
    /// How many tokens there are, in source and target alike.
    pub vocabulary: usize,
    /// Width of a token.
    pub hidden_size: usize,
    /// Of the source.
    pub encoder: StackConfig,
    /// Of the target.
    pub decoder: StackConfig,
    /// Width of a head; `hidden_size / heads` without it.
    #[config(default = "None")]
    pub head_dim: Option<usize>,
    /// Channels of the source's spectrum, where the source is sound (Whisper).
    #[config(default = "None")]
    pub audio_channels: Option<usize>,
    /// How tokens know their positions.
    #[config(default = "SequencePositions::Sinusoidal { interleaved: true }")]
    pub positions: SequencePositions,
    /// Whether embeddings are multiplied by the root of the width.
    #[config(default = true)]
    pub scaled_embeddings: bool,
    /// Whether embeddings are normalised (BART).
    #[config(default = false)]
    pub embedding_norm: bool,
    /// Which norm.
    #[config(default = "NormConfig::Layer { epsilon: 1e-5, bias: true }")]
    pub norm: NormConfig,
    /// Where the norms of a layer stand.
    #[config(default = "NormPlacement::After")]
    pub norm_placement: NormPlacement,
    /// A norm after the last layer of encoder and decoder.
    #[config(default = false)]
    pub final_norm: bool,
    /// Factor on products of queries and keys; `1 / sqrt(head_dim)` without it.
    #[config(default = "None")]
    pub attention_scale: Option<f64>,
    /// Which projections of attention have a bias.
    #[config(default = "AttentionBias::All")]
    pub attention_bias: AttentionBias,
    /// Whether the layers of the MLP have a bias.
    #[config(default = true)]
    pub mlp_bias: bool,
    /// Whether the MLP is gated (T5 1.1).
    #[config(default = false)]
    pub gated: bool,
    /// The nonlinearity of the MLP.
    #[config(default = "Activation::Relu")]
    pub activation: Activation,
    /// Whether logits are products with the embedding, not with a matrix of their own.
    #[config(default = true)]
    pub tied_head: bool,
    /// Whether the decoder's output is divided by the root of the width before the logits (T5).
    #[config(default = false)]
    pub scaled_output: bool,
    /// Whether logits have a bias.
    #[config(default = false)]
    pub logits_bias: bool,
    /// How targets begin and end.
    #[config(default = "GenerationDefaults::default()")]
    pub generation: GenerationDefaults,
}

impl Seq2SeqConfig {
    /// The base model of Vaswani et al. 2017: 6 layers each, 512 wide, 8 heads, 2048 in the MLP.
    pub fn base(vocabulary: usize) -> Self {
        let stack = StackConfig {
            layers: 6,
            heads: 8,
            mlp_size: 2048,
            max_positions: None,
        };
        Self::new(vocabulary, 512, stack.clone(), stack)
    }

    /// Refuses sizes from which no model can be made.
    ///
    /// # Errors
    ///
    /// [`AttentionError::Value`] for a size of 0, heads that do not divide the width where no width of a head is given,
    /// heads wider than 256, learned positions without an end, or a start token that the vocabulary does not have.
    pub fn validate(&self) -> Result<(), AttentionError> {
        let refuse = |argument, given: usize, accepted: String| {
            Err(AttentionError::Value {
                argument,
                given: given.to_string(),
                accepted,
            })
        };
        check_sizes(&[
            ("vocabulary", self.vocabulary),
            ("hidden_size", self.hidden_size),
            ("audio_channels", self.audio_channels.unwrap_or(1)),
        ])?;
        let start = self.generation.start_token;
        if !(0..self.vocabulary as i64).contains(&start) {
            return Err(AttentionError::Value {
                argument: "start_token",
                given: start.to_string(),
                accepted: format!("0 to {}", self.vocabulary - 1),
            });
        }
        for stack in [&self.encoder, &self.decoder] {
            check_sizes(&[
                ("layers", stack.layers),
                ("heads", stack.heads),
                ("mlp_size", stack.mlp_size),
                ("max_positions", stack.max_positions.unwrap_or(1)),
            ])?;
            match self.head_dim {
                None => check_heads(stack.heads, self.hidden_size)?,
                Some(width) if width == 0 || width > MAX_HEAD_DIM => {
                    return refuse("head_dim", width, format!("1 to {MAX_HEAD_DIM}"));
                }
                Some(_) => {}
            }
            let learned = matches!(self.positions, SequencePositions::Learned { .. });
            if learned && stack.max_positions.is_none() {
                return refuse("max_positions", 0, "a number, for learned positions".into());
            }
        }
        match self.positions {
            SequencePositions::Relative {
                buckets,
                max_distance,
            } => check_sizes(&[("buckets", buckets / 2), ("max_distance", max_distance)]),
            SequencePositions::Sinusoidal { .. } if !self.hidden_size.is_multiple_of(2) => refuse(
                "hidden_size",
                self.hidden_size,
                "an even number, for sinusoidal positions".into(),
            ),
            _ => Ok(()),
        }
    }

    /// Attention of a layer with so many heads.
    pub(super) fn attention(
        &self,
        heads: usize,
        causal: bool,
        device: &Device,
    ) -> Result<MultiHeadAttention, AttentionError> {
        let bias = self.attention_bias != AttentionBias::None;
        let spec = AttentionSpec {
            causal: causal.then_some(CausalAlignment::BottomRight),
            scale: self.attention_scale,
            ..AttentionSpec::default()
        };
        MultiHeadAttentionConfig::new(self.hidden_size, heads)
            .with_head_dim(self.head_dim)
            .with_query_bias(bias)
            .with_key_bias(self.attention_bias == AttentionBias::All)
            .with_value_bias(bias)
            .with_output_bias(bias)
            .with_spec(spec)
            .try_init(device)
    }

    /// The MLP of a layer.
    pub(super) fn feed_forward(&self, mlp_size: usize, device: &Device) -> FeedForward {
        if self.gated {
            let config = GatedMlpConfig::new(self.hidden_size, mlp_size).with_bias(self.mlp_bias);
            let gate = Gate::Activation(self.activation);
            return FeedForward::Gated(config.with_gate(gate).init(device));
        }
        let config = MlpConfig::new(self.hidden_size, mlp_size).with_bias(self.mlp_bias);
        FeedForward::Plain(config.with_activation(self.activation).init(device))
    }

    pub(super) fn norm(&self, device: &Device) -> Norm {
        self.norm.init(self.hidden_size, device)
    }
}
