//! How a multi-head attention module is made.

use attention_core::{AttentionError, AttentionSpec, MAX_HEAD_DIM};
use burn::{config::Config, module::Initializer, nn::LinearConfig, tensor::Device};

use super::MultiHeadAttention;
use crate::ops::accept;

/// Configuration of [`MultiHeadAttention`].
///
/// ```
/// use attention_models::nn::MultiHeadAttentionConfig;
/// use attention_models::ops::{AttentionSpec, CausalAlignment};
/// use burn::tensor::Device;
///
/// // Causal, eight query heads on two heads of keys and values, no biases.
/// let module = MultiHeadAttentionConfig::new(256, 8)
///     .with_n_kv_heads(Some(2))
///     .with_query_bias(false)
///     .with_key_bias(false)
///     .with_value_bias(false)
///     .with_output_bias(false)
///     .with_spec(AttentionSpec::default().with_causal(CausalAlignment::BottomRight))
///     .init(&Device::flex());
/// assert_eq!(module.key.weight.dims(), [256, 64]);
/// ```
#[derive(Config, Debug)]
pub struct MultiHeadAttentionConfig {
    /// Width of the query input and of the output.
    pub d_model: usize,
    /// Query heads.
    pub n_heads: usize,
    /// Key and value heads, a divisor of `n_heads`. `None`: `n_heads`.
    pub n_kv_heads: Option<usize>,
    /// Width of one head. `None`: `d_model / n_heads`.
    pub head_dim: Option<usize>,
    /// Width of the key input, for cross-attention. `None`: `d_model`.
    pub d_key: Option<usize>,
    /// Width of the value input, for cross-attention. `None`: `d_model`.
    pub d_value: Option<usize>,
    /// Causality, scale and softcap.
    #[config(default = "AttentionSpec::default()")]
    pub spec: AttentionSpec,
    /// The probability with which an attention probability is dropped in training, from 0 to less
    /// than 1.
    #[config(default = 0.0)]
    pub dropout: f64,
    /// Whether the query projection has a bias.
    #[config(default = true)]
    pub query_bias: bool,
    /// Whether the key projection has a bias.
    #[config(default = true)]
    pub key_bias: bool,
    /// Whether the value projection has a bias.
    #[config(default = true)]
    pub value_bias: bool,
    /// Whether the output projection has a bias.
    #[config(default = true)]
    pub output_bias: bool,
    /// How the projections are initialised; Burn's own default.
    #[config(
        default = "Initializer::KaimingUniform { gain: 1.0 / 3f64.sqrt(), fan_out_only: false }"
    )]
    pub initializer: Initializer,
}

impl MultiHeadAttentionConfig {
    /// A module with fresh weights.
    ///
    /// # Panics
    /// With the message of the error that [`try_init`](Self::try_init) returns.
    pub fn init(&self, device: &Device) -> MultiHeadAttention {
        accept(self.try_init(device))
    }

    /// A module with fresh weights.
    ///
    /// # Errors
    /// [`AttentionError::Value`] for no heads, a `d_model` that `n_heads` does not divide while
    /// `head_dim` is not given, `n_kv_heads` that does not divide `n_heads`, a head wider than 256,
    /// a dropout outside `[0, 1)`, and what [`AttentionSpec::validate`] refuses.
    pub fn try_init(&self, device: &Device) -> Result<MultiHeadAttention, AttentionError> {
        self.spec.validate()?;
        if !(0.0..1.0).contains(&self.dropout) {
            return Err(AttentionError::Value {
                argument: "dropout",
                given: self.dropout.to_string(),
                accepted: "from 0 to less than 1".into(),
            });
        }
        let n_kv_heads = self.checked_kv_heads()?;
        let head_dim = self.checked_head_dim()?;
        let linear = |d_input, d_output, bias| {
            LinearConfig::new(d_input, d_output)
                .with_bias(bias)
                .with_initializer(self.initializer.clone())
                .init(device)
        };
        let (d_query, d_kv) = (self.n_heads * head_dim, n_kv_heads * head_dim);
        let (d_key, d_value) = (
            self.d_key.unwrap_or(self.d_model),
            self.d_value.unwrap_or(self.d_model),
        );
        Ok(MultiHeadAttention {
            query: linear(self.d_model, d_query, self.query_bias),
            key: linear(d_key, d_kv, self.key_bias),
            value: linear(d_value, d_kv, self.value_bias),
            output: linear(d_query, self.d_model, self.output_bias),
            n_heads: self.n_heads,
            n_kv_heads,
            spec: self.spec,
            dropout: self.dropout,
        })
    }

    fn checked_kv_heads(&self) -> Result<usize, AttentionError> {
        if self.n_heads == 0 {
            return refuse("n_heads", 0, "at least 1".into());
        }
        let n_kv_heads = self.n_kv_heads.unwrap_or(self.n_heads);
        if n_kv_heads == 0 || !self.n_heads.is_multiple_of(n_kv_heads) {
            return refuse(
                "n_kv_heads",
                n_kv_heads,
                format!("a divisor of n_heads = {}", self.n_heads),
            );
        }
        Ok(n_kv_heads)
    }

    fn checked_head_dim(&self) -> Result<usize, AttentionError> {
        if self.head_dim.is_none() && !self.d_model.is_multiple_of(self.n_heads) {
            return refuse(
                "d_model",
                self.d_model,
                format!("a multiple of n_heads = {}, or a head_dim", self.n_heads),
            );
        }
        let head_dim = self.head_dim.unwrap_or(self.d_model / self.n_heads);
        if head_dim == 0 || head_dim > MAX_HEAD_DIM {
            return refuse("head_dim", head_dim, format!("from 1 to {MAX_HEAD_DIM}"));
        }
        Ok(head_dim)
    }
}

fn refuse<T>(argument: &'static str, given: usize, accepted: String) -> Result<T, AttentionError> {
    Err(AttentionError::Value {
        argument,
        given: given.to_string(),
        accepted,
    })
}
