//! Score modifications and masks as functions.

use std::fmt;

/// What becomes of a score, and its derivative, at `[batch, head, query, key]`.
pub type ScoreFunction<'a> = &'a (dyn Fn(f64, [usize; 4]) -> (f64, f64) + Sync);

/// Whether a query sees a key, at `[batch, head, query, key]`.
pub type MaskFunction<'a> = &'a (dyn Fn([usize; 4]) -> bool + Sync);

/// The factor of a probability, which the softmax does not see: 0, or `1 / (1 - p)`, for dropout.
pub type WeightFunction<'a> = &'a (dyn Fn([usize; 4]) -> f64 + Sync);

/// A score modification, which follows the softcap and comes before the bias, a mask, and factors
/// of the probabilities.
///
/// ```
/// use attention_core::{AttentionSpec, oracle};
///
/// let inputs = oracle::Inputs {
///     query: oracle::Tensor4::zeros([1, 1, 2, 1]),
///     key: oracle::Tensor4::zeros([1, 1, 2, 1]),
///     value: oracle::Tensor4::new([1, 1, 2, 1], vec![2.0, 6.0]),
///     mask: None,
///     bias: None,
/// };
/// let before = |[_, _, query, key]: [usize; 4]| key <= query;
/// let modification = oracle::Modification {
///     visible: Some(&before),
///     ..Default::default()
/// };
/// let output = oracle::forward_modified(&inputs, &AttentionSpec::default(), modification)?;
/// assert_eq!(output.out.data, [2.0, 4.0]);
/// # Ok::<(), attention_core::AttentionError>(())
/// ```
#[derive(Clone, Copy, Default)]
pub struct Modification<'a> {
    /// None leaves scores as they are.
    pub score: Option<ScoreFunction<'a>>,
    /// None hides nothing.
    pub visible: Option<MaskFunction<'a>>,
    /// None leaves probabilities as they are.
    pub weight: Option<WeightFunction<'a>>,
}

impl fmt::Debug for Modification<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Modification")
            .field("score", &self.score.is_some())
            .field("visible", &self.visible.is_some())
            .field("weight", &self.weight.is_some())
            .finish()
    }
}
