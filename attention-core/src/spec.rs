//! What is computed between the two products.

use serde::{Deserialize, Serialize};

use crate::AttentionError;

/// Which corner of the score matrix the causal diagonal is tied to when `seq_q != seq_kv`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CausalAlignment {
    /// Query `i` sees key `j` when `j <= i + seq_kv - seq_q`: the last query sees every key, as
    /// key-value caches and Burn's own attention have it.
    #[default]
    BottomRight,
    /// Query `i` sees key `j` when `j <= i`, as torch's `is_causal` has it.
    TopLeft,
}

/// The scalar options of exact attention.
///
/// Scores are `scale * q k^T`, then softcap, then the additive bias, then the masks (causal and
/// boolean), then softmax over the keys. A row with no key left gives output 0, log-sum-exp
/// `-inf` and gradient 0.
///
/// ```
/// use attention_core::{AttentionSpec, CausalAlignment};
///
/// let spec = AttentionSpec::default()
///     .with_causal(CausalAlignment::BottomRight)
///     .with_softcap(50.0);
/// assert_eq!(spec.scale_for(64), 0.125);
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AttentionSpec {
    /// Hide later keys from each query. `None`: every key is visible.
    pub causal: Option<CausalAlignment>,
    /// Factor on `q k^T`. `None`: `1 / sqrt(head_dim)`.
    pub scale: Option<f64>,
    /// Squash scores to `softcap * tanh(score / softcap)` (Gemma 2, <https://arxiv.org/abs/2408.00118>).
    pub softcap: Option<f64>,
}

impl AttentionSpec {
    /// Hides later keys from each query.
    pub fn with_causal(mut self, alignment: CausalAlignment) -> Self {
        self.causal = Some(alignment);
        self
    }

    /// Replaces the factor `1 / sqrt(head_dim)`.
    pub fn with_scale(mut self, scale: f64) -> Self {
        self.scale = Some(scale);
        self
    }

    /// Squashes scores to `softcap * tanh(score / softcap)`.
    pub fn with_softcap(mut self, softcap: f64) -> Self {
        self.softcap = Some(softcap);
        self
    }

    /// The factor on `q k^T` for this head dimension.
    pub fn scale_for(&self, head_dim: usize) -> f64 {
        self.scale
            .unwrap_or_else(|| 1.0 / (head_dim.max(1) as f64).sqrt())
    }

    /// Refuses a scale that is not finite and a softcap that is not positive and finite.
    pub fn validate(&self) -> Result<(), AttentionError> {
        if let Some(scale) = self.scale
            && !(scale as f32).is_finite()
        {
            return Err(AttentionError::Value {
                argument: "scale",
                given: scale.to_string(),
                accepted: "a number that is finite in f32".into(),
            });
        }
        if let Some(softcap) = self.softcap
            && !((softcap as f32).is_finite() && softcap as f32 > 0.0)
        {
            return Err(AttentionError::Value {
                argument: "softcap",
                given: softcap.to_string(),
                accepted: "a number that is finite and above 0 in f32".into(),
            });
        }
        Ok(())
    }
}
