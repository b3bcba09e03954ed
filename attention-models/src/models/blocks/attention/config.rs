use attention_core::{AttentionError, MAX_HEAD_DIM};
use burn::config::Config;
use burn::module::Initializer;
use burn::nn::LinearConfig;
use burn::tensor::Device;
use serde::{Deserialize, Serialize};

use super::SelfAttention;
use crate::models::blocks::{DifferentialHeads, RmsNormConfig, RotaryConfig};

/// How attention learns where a token stands.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PositionEncoding {
    /// Not by itself: positions were added to the tokens, or there are none.
    #[default]
    None,
    /// Queries and keys are rotated.
    Rotary(RotaryConfig),
    /// Scores fall with the distance, by a slope for each head (Press et al. 2021,
    /// <https://arxiv.org/abs/2108.12409>).
    Alibi {
        /// For each head.
        slopes: Vec<f32>,
    },
}

/// How far a token sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Window {
    /// Tokens to the left; Mistral's window of `w` tokens, the token itself among them, is `w - 1`.
    pub before: usize,
    /// Tokens to the right.
    pub after: usize,
}

/// Sizes and variants of a [`SelfAttention`].
#[derive(Config, Debug, PartialEq)]
pub struct SelfAttentionConfig {
    /// Width of a token.
    pub hidden_size: usize,
    /// Heads of the queries.
    pub heads: usize,
    /// Heads of keys and values, which divide `heads`; as many without it.
    #[config(default = "None")]
    pub kv_heads: Option<usize>,
    /// Width of a head; `hidden_size / heads` without it.
    #[config(default = "None")]
    pub head_dim: Option<usize>,
    /// Whether the projections to queries, keys and values have biases.
    #[config(default = false)]
    pub input_bias: bool,
    /// Whether the projection of the output has a bias.
    #[config(default = false)]
    pub output_bias: bool,
    /// A norm of each head's queries and keys, with epsilon and offset of an [`RmsNorm`](crate::models::blocks::RmsNorm).
    #[config(default = "None")]
    pub head_norm: Option<(f64, f64)>,
    /// The factor on products; `1 / sqrt(head_dim)` without it.
    #[config(default = "None")]
    pub scale: Option<f64>,
    /// Scores are squashed to this magnitude.
    #[config(default = "None")]
    pub softcap: Option<f64>,
    /// Whether a token sees only those before it, and itself.
    #[config(default = false)]
    pub causal: bool,
    /// How far a token sees; to the ends without it.
    #[config(default = "None")]
    pub window: Option<Window>,
    /// How attention learns where a token stands.
    #[config(default = "PositionEncoding::None")]
    pub position: PositionEncoding,
    /// Whether each head has a learned sink, a logit without a value.
    #[config(default = false)]
    pub sinks: bool,
    /// Differential attention, with its `lambda_init` and the epsilon of its norm.
    #[config(default = "None")]
    pub differential: Option<(f64, f64)>,
}

impl SelfAttentionConfig {
    /// Heads of keys and values.
    pub fn kv_heads(&self) -> usize {
        self.kv_heads.unwrap_or(self.heads)
    }

    /// Width of a head.
    pub fn head_dim(&self) -> usize {
        self.head_dim
            .unwrap_or(self.hidden_size / self.heads.max(1))
    }

    /// Refuses sizes from which no attention can be made.
    ///
    /// # Errors
    /// [`AttentionError::Value`] naming the field.
    pub fn validate(&self) -> Result<(), AttentionError> {
        let refuse = |argument, given: usize, accepted: String| {
            Err(AttentionError::Value {
                argument,
                given: given.to_string(),
                accepted,
            })
        };
        let (heads, kv_heads, head_dim) = (self.heads, self.kv_heads(), self.head_dim());
        if heads == 0 || self.head_dim.is_none() && !self.hidden_size.is_multiple_of(heads) {
            let accepted = format!("a divisor of the hidden size {}", self.hidden_size);
            return refuse("heads", heads, accepted);
        }
        if kv_heads == 0 || !heads.is_multiple_of(kv_heads) {
            return refuse(
                "kv_heads",
                kv_heads,
                format!("a divisor of the {heads} heads"),
            );
        }
        if self.differential.is_some() && !kv_heads.is_multiple_of(2) {
            return refuse("kv_heads", kv_heads, "an even number, for two maps".into());
        }
        if head_dim == 0 || head_dim > MAX_HEAD_DIM {
            return refuse("head_dim", head_dim, format!("1 to {MAX_HEAD_DIM}"));
        }
        match &self.position {
            PositionEncoding::Rotary(rotary) => rotary.try_init().map(|_| ()),
            PositionEncoding::Alibi { slopes } if slopes.len() != heads => refuse(
                "slopes",
                slopes.len(),
                format!("one for each of {heads} heads"),
            ),
            _ => Ok(()),
        }
    }

    /// Attention with random weights.
    ///
    /// # Panics
    /// Panics with the message of [`validate`](Self::validate) where that refuses.
    pub fn init(&self, device: &Device) -> SelfAttention {
        self.try_init(device)
            .unwrap_or_else(|error| panic!("{error}"))
    }

    /// As [`init`](Self::init).
    ///
    /// # Errors
    /// Sizes that [`validate`](Self::validate) refuses.
    pub fn try_init(&self, device: &Device) -> Result<SelfAttention, AttentionError> {
        self.validate()?;
        let (heads, kv_heads, head_dim) = (self.heads, self.kv_heads(), self.head_dim());
        let linear = |from, to, bias| LinearConfig::new(from, to).with_bias(bias).init(device);
        let input = |heads: usize| linear(self.hidden_size, heads * head_dim, self.input_bias);
        let head_norm = || {
            let (epsilon, offset) = self.head_norm?;
            let config = RmsNormConfig::new(head_dim).with_epsilon(epsilon);
            Some(config.with_offset(offset).init(device))
        };
        let rotary = match &self.position {
            PositionEncoding::Rotary(rotary) => Some(rotary.try_init()?),
            _ => None,
        };
        Ok(SelfAttention {
            query: input(heads),
            key: input(kv_heads),
            value: input(kv_heads),
            output: linear(heads * head_dim, self.hidden_size, self.output_bias),
            query_norm: head_norm(),
            key_norm: head_norm(),
            sinks: self.sinks.then(|| Initializer::Zeros.init([heads], device)),
            differential: self.differential.map(|(lambda_init, epsilon)| {
                DifferentialHeads::new(head_dim, lambda_init, epsilon, device)
            }),
            rotary,
            config: self.clone(),
        })
    }
}
