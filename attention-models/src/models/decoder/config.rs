use attention_core::AttentionError;
use burn::config::Config;
use burn::tensor::Device;
use serde::{Deserialize, Serialize};

use crate::models::blocks::{
    FeedForward, GatedMlpConfig, MixtureOfExpertsConfig, MlpConfig, NormConfig, SelfAttentionConfig,
};

/// What a layer does with each token by itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FeedForwardConfig {
    /// Two layers.
    Plain(MlpConfig),
    /// Two layers, the inner one gated.
    Gated(GatedMlpConfig),
    /// A few gated MLPs of many.
    Experts(MixtureOfExpertsConfig),
}

impl FeedForwardConfig {
    pub(super) fn init(&self, device: &Device) -> FeedForward {
        match self {
            Self::Plain(config) => FeedForward::Plain(config.init(device)),
            Self::Gated(config) => FeedForward::Gated(config.init(device)),
            Self::Experts(config) => FeedForward::Experts(config.init(device)),
        }
    }
}

/// How attention `a` and MLP `m` are added to the tokens `x`; `n` are norms.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Residual {
    /// `y = x + a(n(x))`, then `y + m(n(y))`.
    #[default]
    Sequential,
    /// `y = x + n(a(n(x)))`, then `y + n(m(n(y)))` (Gemma).
    Sandwich,
    /// `x + a(n(x)) + m(n(x))`, with two norms (GPT-NeoX).
    Parallel,
    /// `x + a(n) + m(n)` with one `n = n(x)` (Falcon).
    ParallelOneNorm,
}

/// A layer's variants.
#[derive(Config, Debug, PartialEq)]
pub struct DecoderLayerConfig {
    /// Its attention.
    pub attention: SelfAttentionConfig,
    /// What it does with each token.
    pub feed_forward: FeedForwardConfig,
    /// Its norms.
    pub norm: NormConfig,
    /// How the two are added.
    #[config(default = "Residual::Sequential")]
    pub residual: Residual,
}

/// Sizes and variants of a [`Decoder`](super::Decoder).
///
/// ```
/// use attention_models::models::blocks::{
///     GatedMlpConfig, NormConfig, PositionEncoding, RotaryConfig, SelfAttentionConfig,
/// };
/// use attention_models::models::decoder::{DecoderConfig, DecoderLayerConfig, FeedForwardConfig};
/// use burn::tensor::{Device, Int, Tensor};
///
/// // A small Llama.
/// let norm = NormConfig::Rms { epsilon: 1e-6, offset: 0.0 };
/// let attention = SelfAttentionConfig::new(32, 4)
///     .with_kv_heads(Some(2))
///     .with_causal(true)
///     .with_position(PositionEncoding::Rotary(RotaryConfig::new(8)));
/// let mlp = FeedForwardConfig::Gated(GatedMlpConfig::new(32, 64));
/// let layer = DecoderLayerConfig::new(attention, mlp, norm);
///
/// let device = Device::flex();
/// let model = DecoderConfig::new(100, vec![layer; 2], norm).init(&device);
/// let tokens = Tensor::<2, Int>::from_data([[5, 9, 2, 7]], &device);
/// assert_eq!(model.forward(tokens).dims(), [1, 4, 100]);
/// ```
#[derive(Config, Debug, PartialEq)]
pub struct DecoderConfig {
    /// How many tokens there are.
    pub vocabulary: usize,
    /// The layers, first to last.
    pub layers: Vec<DecoderLayerConfig>,
    /// The norm after the last layer.
    pub norm: NormConfig,
    /// Positions that are learned and added to the tokens; none without it.
    #[config(default = "None")]
    pub learned_positions: Option<usize>,
    /// The factor on the tokens' embeddings.
    #[config(default = "None")]
    pub embedding_scale: Option<f64>,
    /// The norm of the embeddings.
    #[config(default = "None")]
    pub embedding_norm: Option<NormConfig>,
    /// Whether logits are products with the embeddings; else they have a matrix of their own.
    #[config(default = false)]
    pub tied_head: bool,
    /// Logits are squashed to this magnitude.
    #[config(default = "None")]
    pub logit_softcap: Option<f64>,
}

impl DecoderConfig {
    /// Width of a token.
    pub fn hidden_size(&self) -> usize {
        self.layers
            .first()
            .map_or(0, |layer| layer.attention.hidden_size)
    }

    /// Refuses sizes from which no model can be made.
    ///
    /// # Errors
    /// [`AttentionError::Value`] naming the field.
    pub fn validate(&self) -> Result<(), AttentionError> {
        if self.layers.is_empty() {
            return Err(AttentionError::Value {
                argument: "layers",
                given: "none".into(),
                accepted: "at least one".into(),
            });
        }
        for layer in &self.layers {
            layer.attention.validate()?;
            if let FeedForwardConfig::Experts(experts) = &layer.feed_forward {
                experts.validate()?;
            }
            if layer.attention.hidden_size != self.hidden_size() {
                return Err(AttentionError::Value {
                    argument: "hidden_size",
                    given: layer.attention.hidden_size.to_string(),
                    accepted: format!("{}, as in the first layer", self.hidden_size()),
                });
            }
        }
        Ok(())
    }
}
