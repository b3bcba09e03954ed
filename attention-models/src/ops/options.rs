//! What a caller may ask of an attention operation.

#[cfg(feature = "cube")]
use attention_core::AttentionError;
use attention_core::{AttentionSpec, CausalAlignment};
use burn::tensor::{Bool, Tensor};

#[cfg(feature = "cube")]
use super::{BlockMap, Engine, MaskMod, ScoreMod, WeightMod, variants};

/// Options of [`attention`](super::attention): the scalar [`AttentionSpec`], a boolean mask and an
/// additive bias, a score modification and a mask as code. All of them combine, and any combination
/// stays fused.
///
/// Scores are `scale * q k^T`, then softcap, then the score modification, then the bias is added,
/// then the masks exclude keys, then softmax, then the factors of probabilities.
///
/// ```
/// use attention_core::CausalAlignment;
/// use attention_models::ops::AttentionOptions;
/// use burn::tensor::{Bool, Device, Tensor};
///
/// // Two sequences of five keys, the second padded by two.
/// let padding = Tensor::<2, Bool>::from_data(
///     [
///         [false, false, false, false, false],
///         [false, false, false, true, true],
///     ],
///     &Device::flex(),
/// );
/// let options = AttentionOptions::default()
///     .with_causal(CausalAlignment::BottomRight)
///     .with_mask(padding.reshape([2, 1, 1, 5]));
/// assert!(options.bias.is_none());
/// ```
#[derive(Debug, Clone, Default)]
pub struct AttentionOptions {
    /// Causality, scale and softcap.
    pub spec: AttentionSpec,
    /// `[batch | 1, heads | 1, seq_q | 1, seq_kv | 1]`, Burn's polarity: `true` hides the key.
    pub mask: Option<Tensor<4, Bool>>,
    /// `[batch | 1, heads | 1, seq_q | 1, seq_kv | 1]`, added to the scores; the query's dtype. It
    /// receives a gradient.
    pub bias: Option<Tensor<4>>,
    /// Code that changes the scores.
    #[cfg(feature = "cube")]
    pub score_mod: Option<ScoreMod>,
    /// Code that says which keys a query sees: `true` shows the key.
    #[cfg(feature = "cube")]
    pub mask_mod: Option<MaskMod>,
    /// The blocks that a mask leaves anything of, with that mask: the others are skipped. It takes
    /// the place of `mask_mod`.
    #[cfg(feature = "cube")]
    pub block_map: Option<BlockMap>,
    /// Code that multiplies the probabilities which the softmax gives.
    #[cfg(feature = "cube")]
    pub weight_mod: Option<WeightMod>,
    /// How rows and tokens are multiplied.
    #[cfg(feature = "cube")]
    pub engine: Engine,
}

impl AttentionOptions {
    /// Hides later keys from each query.
    pub fn with_causal(mut self, alignment: CausalAlignment) -> Self {
        self.spec = self.spec.with_causal(alignment);
        self
    }

    /// Replaces the factor `1 / sqrt(head_dim)` on `q k^T`.
    pub fn with_scale(mut self, scale: f64) -> Self {
        self.spec = self.spec.with_scale(scale);
        self
    }

    /// Squashes scores to `softcap * tanh(score / softcap)`.
    pub fn with_softcap(mut self, softcap: f64) -> Self {
        self.spec = self.spec.with_softcap(softcap);
        self
    }

    /// Hides the keys where `mask` is `true`: `[batch | 1, heads | 1, seq_q | 1, seq_kv | 1]`.
    pub fn with_mask(mut self, mask: Tensor<4, Bool>) -> Self {
        self.mask = Some(mask);
        self
    }

    /// Adds `bias` to the scores: `[batch | 1, heads | 1, seq_q | 1, seq_kv | 1]`.
    pub fn with_bias(mut self, bias: Tensor<4>) -> Self {
        self.bias = Some(bias);
        self
    }

    /// Changes the scores by code, after those that were given before.
    #[cfg(feature = "cube")]
    pub fn with_score_mod(mut self, score_mod: ScoreMod) -> Self {
        self.score_mod = Some(match self.score_mod.take() {
            Some(before) => before.then(score_mod),
            None => score_mod,
        });
        self
    }

    /// Shows only keys that the code shows, and those that were given before.
    #[cfg(feature = "cube")]
    pub fn with_mask_mod(mut self, mask_mod: MaskMod) -> Self {
        self.mask_mod = Some(match self.mask_mod.take() {
            Some(before) => before.and(mask_mod),
            None => mask_mod,
        });
        self
    }

    /// Shows only keys that the map's mask shows, and skips the blocks that it leaves empty.
    #[cfg(feature = "cube")]
    pub fn with_block_map(mut self, block_map: BlockMap) -> Self {
        self.block_map = Some(block_map);
        self
    }

    /// Multiplies the probabilities by factors, and by those that were given before.
    #[cfg(feature = "cube")]
    pub fn with_weight_mod(mut self, weight_mod: WeightMod) -> Self {
        self.weight_mod = Some(match self.weight_mod.take() {
            Some(before) => before.then(weight_mod),
            None => weight_mod,
        });
        self
    }

    /// Asks for a tile engine by name. A device that does not have it refuses the call.
    #[cfg(feature = "cube")]
    pub fn with_engine(mut self, engine: Engine) -> Self {
        self.engine = engine;
        self
    }

    /// Drops each probability with `probability`, and scales the others up by `1 / (1 - probability)`:
    /// the same ones for the same seed on every device, forward and backward. The log-sum-exp is that
    /// of the undropped scores. Give every layer and step a seed of its own, and none in inference.
    ///
    /// # Errors
    /// [`AttentionError::Value`] for a probability outside `[0, 1)`.
    ///
    /// ```
    /// use attention_models::ops::AttentionOptions;
    ///
    /// let options = AttentionOptions::default().with_dropout(0.1, 42)?;
    /// assert!(options.weight_mod.is_some());
    /// assert_eq!(
    ///     options.with_dropout(1.0, 42).unwrap_err().to_string(),
    ///     "`probability` is 1; accepted: from 0 to less than 1",
    /// );
    /// # Ok::<(), attention_models::ops::AttentionError>(())
    /// ```
    #[cfg(feature = "cube")]
    pub fn with_dropout(self, probability: f64, seed: u64) -> Result<Self, AttentionError> {
        let dropout = variants::dropout(probability, seed)?;
        if probability == 0.0 {
            return Ok(self);
        }
        Ok(self.with_weight_mod(dropout))
    }
}

impl From<AttentionSpec> for AttentionOptions {
    fn from(spec: AttentionSpec) -> Self {
        Self {
            spec,
            ..Self::default()
        }
    }
}
