use attention_core::AttentionError;
use burn::tensor::{Bool, Int, Tensor};

use crate::ops::check::check_shape;

/// What an encoder reads.
#[derive(Debug, Clone)]
pub struct EncoderInput {
    /// `[batch, seq]`: the number of each token in the vocabulary.
    pub tokens: Tensor<2, Int>,
    /// `[batch, seq]`: `true` where the token is padding, which no token then sees.
    pub padding: Option<Tensor<2, Bool>>,
    /// `[batch, seq]`: the segment, or sentence, of each token. `None`: segment 0.
    pub segments: Option<Tensor<2, Int>>,
}

impl EncoderInput {
    /// Tokens of one segment, without padding: `[batch, seq]`.
    pub fn new(tokens: Tensor<2, Int>) -> Self {
        Self {
            tokens,
            padding: None,
            segments: None,
        }
    }

    /// Hides padding: `[batch, seq]`, `true` hides. An attention mask of transformers is the opposite.
    pub fn with_padding(mut self, padding: Tensor<2, Bool>) -> Self {
        self.padding = Some(padding);
        self
    }

    /// Says which segment each token is of: `[batch, seq]`.
    pub fn with_segments(mut self, segments: Tensor<2, Int>) -> Self {
        self.segments = Some(segments);
        self
    }

    /// Refuses what does not fit a model of `vocabulary` tokens, `segments` segments and `max_positions` positions.
    pub(super) fn check(
        &self,
        vocabulary: usize,
        segments: usize,
        max_positions: usize,
    ) -> Result<(), AttentionError> {
        check_tokens("tokens", &self.tokens, vocabulary, max_positions)?;
        let dims = self.tokens.dims();
        if let Some(padding) = &self.padding {
            check_shape("padding", &padding.dims(), &dims)?;
        }
        if let Some(given) = &self.segments {
            check_shape("segments", &given.dims(), &dims)?;
            check_numbers("segments", given, segments.max(1))?;
        }
        Ok(())
    }
}

/// Refuses no tokens, more than there are positions, and numbers that the vocabulary does not have.
pub(in crate::models) fn check_tokens(
    argument: &'static str,
    tokens: &Tensor<2, Int>,
    vocabulary: usize,
    max_positions: usize,
) -> Result<(), AttentionError> {
    check_length(argument, tokens, max_positions)?;
    check_numbers(argument, tokens, vocabulary)
}

/// Refuses no tokens, and more than there are positions. Nothing is read from the device.
pub(in crate::models) fn check_length(
    argument: &'static str,
    tokens: &Tensor<2, Int>,
    max_positions: usize,
) -> Result<(), AttentionError> {
    let [batch, seq] = tokens.dims();
    if batch > 0 && (1..=max_positions).contains(&seq) {
        return Ok(());
    }
    Err(AttentionError::Shape {
        argument,
        given: tokens.dims().to_vec(),
        accepted: match max_positions {
            0 => "none: the model has no position left".into(),
            usize::MAX => "[batch, seq] of at least 1 token".into(),
            _ => format!("[batch, seq] of 1 to {max_positions} tokens, the model's positions"),
        },
    })
}

fn check_numbers(
    argument: &'static str,
    numbers: &Tensor<2, Int>,
    end: usize,
) -> Result<(), AttentionError> {
    let largest = numbers.clone().max().into_scalar::<i64>();
    let least = numbers.clone().min().into_scalar::<i64>();
    match [least, largest]
        .into_iter()
        .find(|n| !(0..end as i64).contains(n))
    {
        None => Ok(()),
        Some(given) => Err(AttentionError::Value {
            argument,
            given: given.to_string(),
            accepted: format!("0 to {}", end - 1),
        }),
    }
}

/// What an encoder computes.
#[derive(Debug, Clone)]
pub struct EncoderOutput {
    /// `[batch, seq, hidden_size]`
    pub last_hidden_state: Tensor<3>,
    /// `[batch, hidden_size]`: the sequence as one vector, where the model says how
    /// ([`Pooling`](super::Pooling)).
    pub pooled: Option<Tensor<2>>,
    /// `[batch, projection]`: `pooled` in the space that CLIP shares with images, where there is a projection.
    pub projected: Option<Tensor<2>>,
    pub(super) padding: Option<Tensor<2, Bool>>,
}

impl EncoderOutput {
    /// The mean of the last hidden state over the tokens that are no padding, `[batch, hidden_size]`: sentence
    /// embeddings (Reimers & Gurevych 2019, <https://arxiv.org/abs/1908.10084>).
    pub fn mean(&self) -> Tensor<2> {
        let states = self.last_hidden_state.clone();
        let Some(padding) = &self.padding else {
            return states.mean_dim(1).squeeze_dim::<2>(1);
        };
        let kept = padding.clone().bool_not().float().cast(states.dtype());
        let kept = kept.unsqueeze_dim::<3>(2);
        let count = kept.clone().sum_dim(1).clamp_min(1.0);
        ((states * kept).sum_dim(1) / count).squeeze_dim::<2>(1)
    }
}
