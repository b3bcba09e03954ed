//! What transformers' configurations say about rotary positions.

use serde::Deserialize;

use super::{RotaryConfig, RotaryScaling};

/// `rope_parameters` of version 5, or `rope_scaling` and its neighbours of older files.
///
/// ```
/// use attention_models::models::blocks::{HuggingFaceRotary, RotaryScaling};
///
/// let file: HuggingFaceRotary =
///     serde_json::from_str(r#"{"rope_type": "linear", "factor": 4.0, "rope_theta": 5e5}"#)?;
/// let rotary = file.config(64, 2048)?;
/// assert_eq!((rotary.theta, rotary.scaling), (5e5, RotaryScaling::Linear { factor: 4.0 }));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Default, Deserialize)]
pub struct HuggingFaceRotary {
    rope_type: Option<String>,
    /// As older files call it, which may have both.
    #[serde(rename = "type")]
    older_type: Option<String>,
    /// `theta`, 10000 without it.
    pub rope_theta: Option<f64>,
    /// The part of a head that is rotated.
    pub partial_rotary_factor: Option<f64>,
    factor: Option<f64>,
    original_max_position_embeddings: Option<usize>,
    attention_factor: Option<f64>,
    mscale: Option<f64>,
    mscale_all_dim: Option<f64>,
    beta_fast: Option<f64>,
    beta_slow: Option<f64>,
    truncate: Option<bool>,
    short_factor: Option<Vec<f64>>,
    long_factor: Option<Vec<f64>>,
    low_freq_factor: Option<f64>,
    high_freq_factor: Option<f64>,
}

impl HuggingFaceRotary {
    /// For heads of `head_dim`, in a model for sequences of `max_positions`.
    ///
    /// # Errors
    /// What the file lacks for its `rope_type`, or that there is no such type.
    pub fn config(&self, head_dim: usize, max_positions: usize) -> Result<RotaryConfig, String> {
        let kind = self.rope_type.as_deref().or(self.older_type.as_deref());
        let kind = kind.unwrap_or("default");
        let part = self.partial_rotary_factor.unwrap_or(1.0);
        let dims = if kind == "proportional" {
            head_dim
        } else {
            (head_dim as f64 * part) as usize
        };
        Ok(RotaryConfig::new(head_dim)
            .with_rotary_dims((dims != head_dim).then_some(dims))
            .with_theta(self.rope_theta.unwrap_or(10000.0))
            .with_scaling(self.scaling(kind, head_dim, max_positions)?))
    }

    fn scaling(
        &self,
        kind: &str,
        head_dim: usize,
        max_positions: usize,
    ) -> Result<RotaryScaling, String> {
        let missing = |name: &str| format!("`{name}` is missing, which rope type `{kind}` needs");
        let original = self.original_max_position_embeddings;
        let trained_length = original.unwrap_or(max_positions);
        let extension = max_positions as f64 / trained_length as f64;
        let factor = || self.factor.ok_or_else(|| missing("factor"));
        Ok(match kind {
            "default" => RotaryScaling::None,
            "linear" => RotaryScaling::Linear { factor: factor()? },
            "dynamic" => RotaryScaling::Dynamic {
                factor: factor()?,
                trained_length: max_positions,
            },
            "yarn" => {
                let factor = self.factor.unwrap_or(extension);
                RotaryScaling::Yarn {
                    factor,
                    trained_length,
                    beta_fast: self.beta_fast.unwrap_or(32.0),
                    beta_slow: self.beta_slow.unwrap_or(1.0),
                    truncate: self.truncate.unwrap_or(true),
                    attention_factor: self
                        .attention_factor
                        .unwrap_or_else(|| self.yarn_attention_factor(factor)),
                }
            }
            "longrope" | "su" => {
                let factor = self.factor.unwrap_or(extension);
                let lengthened = 1.0 + factor.max(1.0).ln() / (trained_length as f64).ln();
                RotaryScaling::LongRope {
                    trained_length,
                    short_factor: self
                        .short_factor
                        .clone()
                        .ok_or_else(|| missing("short_factor"))?,
                    long_factor: self
                        .long_factor
                        .clone()
                        .ok_or_else(|| missing("long_factor"))?,
                    attention_factor: self.attention_factor.unwrap_or_else(|| lengthened.sqrt()),
                }
            }
            "llama3" => RotaryScaling::Llama3 {
                factor: factor()?,
                trained_length,
                low_frequency: self
                    .low_freq_factor
                    .ok_or_else(|| missing("low_freq_factor"))?,
                high_frequency: self
                    .high_freq_factor
                    .ok_or_else(|| missing("high_freq_factor"))?,
            },
            "proportional" => {
                let part = self.partial_rotary_factor.unwrap_or(1.0);
                RotaryScaling::Proportional {
                    factor: self.factor.unwrap_or(1.0),
                    turning_pairs: (part * (head_dim / 2) as f64) as usize,
                }
            }
            other => {
                return Err(format!(
                    "rope type `{other}` is not known; accepted: default, linear, dynamic, yarn, \
                     longrope, llama3, proportional"
                ));
            }
        })
    }

    /// `0.1 ln(factor) + 1`, or what the file says about its two parts.
    fn yarn_attention_factor(&self, factor: f64) -> f64 {
        let scale = |weight: f64| 0.1 * weight * factor.max(1.0).ln() + 1.0;
        match (self.mscale, self.mscale_all_dim) {
            (Some(of_pairs), Some(of_all)) if of_pairs != 0.0 && of_all != 0.0 => {
                scale(of_pairs) / scale(of_all)
            }
            _ => scale(1.0),
        }
    }
}
