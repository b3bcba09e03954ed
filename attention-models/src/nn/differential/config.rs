//! How a differential attention module is made.

use attention_core::{AttentionError, AttentionSpec, MAX_HEAD_DIM};
use burn::{
    config::Config,
    module::{Initializer, Param},
    nn::LinearConfig,
    tensor::{Device, Tensor},
};

use super::DifferentialAttention;
use crate::ops::accept;

/// Configuration of [`DifferentialAttention`].
///
/// ```
/// use attention_models::nn::DifferentialAttentionConfig;
/// use burn::tensor::Device;
///
/// // The fourth layer of a model: four heads of two maps each, on two heads of keys and values.
/// let module = DifferentialAttentionConfig::new(256, 4, 3)
///     .with_n_kv_heads(Some(2))
///     .init(&Device::flex());
/// assert_eq!(module.query.weight.dims(), [256, 2 * 4 * 32]);
/// assert_eq!(module.value.weight.dims(), [256, 2 * 64]);
/// ```
#[derive(Config, Debug)]
pub struct DifferentialAttentionConfig {
    /// Width of the input and of the output.
    pub d_model: usize,
    /// Heads of the output, each the difference of two maps: half of DiffLlama's
    /// `num_attention_heads`.
    pub n_heads: usize,
    /// The layer that the module is in, from 0: `lambda_init = 0.8 - 0.6 exp(-0.3 layer)`.
    pub layer: usize,
    /// Key heads of each map and value heads, a divisor of `n_heads`: half of DiffLlama's
    /// `num_key_value_heads`. `None`: `n_heads`.
    pub n_kv_heads: Option<usize>,
    /// Width of a query and of a key; values are twice as wide. `None`: `d_model / n_heads / 2`.
    pub head_dim: Option<usize>,
    /// Causality, scale and softcap.
    #[config(default = "AttentionSpec::default()")]
    pub spec: AttentionSpec,
    /// Whether the projections have a bias.
    #[config(default = false)]
    pub bias: bool,
    /// Of the norm.
    #[config(default = 1e-5)]
    pub epsilon: f64,
    /// The standard deviation with which the vectors that make lambda begin.
    #[config(default = 0.1)]
    pub lambda_std: f64,
    /// How the projections are initialised; Burn's own default.
    #[config(
        default = "Initializer::KaimingUniform { gain: 1.0 / 3f64.sqrt(), fan_out_only: false }"
    )]
    pub initializer: Initializer,
}

impl DifferentialAttentionConfig {
    /// A module with fresh weights.
    ///
    /// # Panics
    /// With the message of the error that [`try_init`](Self::try_init) returns.
    pub fn init(&self, device: &Device) -> DifferentialAttention {
        accept(self.try_init(device))
    }

    /// A module with fresh weights.
    ///
    /// # Errors
    /// [`AttentionError::Value`] for no heads, a `d_model` that `2 * n_heads` does not divide while
    /// `head_dim` is not given, `n_kv_heads` that does not divide `n_heads`, a head wider than 128,
    /// an `epsilon` that is not positive, a `lambda_std` that is negative, and what
    /// [`AttentionSpec::validate`] refuses.
    pub fn try_init(&self, device: &Device) -> Result<DifferentialAttention, AttentionError> {
        self.spec.validate()?;
        self.check_numbers()?;
        let n_kv_heads = self.checked_kv_heads()?;
        let head_dim = self.checked_head_dim()?;
        let linear = |d_input, d_output| {
            LinearConfig::new(d_input, d_output)
                .with_bias(self.bias)
                .with_initializer(self.initializer.clone())
                .init(device)
        };
        let lambda = || -> Param<Tensor<1>> {
            let normal = Initializer::Normal {
                mean: 0.0,
                std: self.lambda_std,
            };
            normal.init([head_dim], device)
        };
        let d_query = 2 * self.n_heads * head_dim;
        let d_kv = 2 * n_kv_heads * head_dim;
        Ok(DifferentialAttention {
            query: linear(self.d_model, d_query),
            key: linear(self.d_model, d_kv),
            value: linear(self.d_model, d_kv),
            output: linear(d_query, self.d_model),
            lambda_q1: lambda(),
            lambda_k1: lambda(),
            lambda_q2: lambda(),
            lambda_k2: lambda(),
            n_heads: self.n_heads,
            n_kv_heads,
            lambda_init: 0.8 - 0.6 * (-0.3 * self.layer as f64).exp(),
            epsilon: self.epsilon,
            spec: self.spec,
        })
    }

    fn check_numbers(&self) -> Result<(), AttentionError> {
        if !(self.epsilon.is_finite() && self.epsilon > 0.0) {
            return refuse("epsilon", self.epsilon, "a finite number above 0".into());
        }
        if !(self.lambda_std.is_finite() && self.lambda_std >= 0.0) {
            return refuse(
                "lambda_std",
                self.lambda_std,
                "a finite number from 0".into(),
            );
        }
        Ok(())
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
        let maps = 2 * self.n_heads;
        if self.head_dim.is_none() && !self.d_model.is_multiple_of(maps) {
            return refuse(
                "d_model",
                self.d_model,
                format!("a multiple of 2 * n_heads = {maps}, or a head_dim"),
            );
        }
        let head_dim = self.head_dim.unwrap_or(self.d_model / maps);
        let most = MAX_HEAD_DIM / 2;
        if head_dim == 0 || head_dim > most {
            return refuse("head_dim", head_dim, format!("from 1 to {most}"));
        }
        Ok(head_dim)
    }
}

fn refuse<T>(
    argument: &'static str,
    given: impl ToString,
    accepted: String,
) -> Result<T, AttentionError> {
    Err(AttentionError::Value {
        argument,
        given: given.to_string(),
        accepted,
    })
}
