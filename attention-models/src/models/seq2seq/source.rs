use attention_core::AttentionError;
use burn::tensor::{Bool, Int, Tensor};

use super::Seq2Seq;
use crate::models::encoder::{check_length, check_tokens};
use crate::ops::check::check_shape;

/// What is translated, summarised or written down.
#[derive(Debug, Clone)]
#[expect(clippy::large_enum_variant, reason = "one exists in a forward pass")]
pub enum Source {
    /// Text.
    Text {
        /// `[batch, source]`
        tokens: Tensor<2, Int>,
        /// `[batch, source]`: `true` where the token is padding, which no token then sees.
        padding: Option<Tensor<2, Bool>>,
    },
    /// Sound, `[batch, channels, frames]`: the logarithm of a mel spectrum.
    Audio(Tensor<3>),
}

/// A source as the encoder understood it.
#[derive(Debug, Clone)]
pub struct Memory {
    /// `[batch, source, hidden_size]`
    pub states: Tensor<3>,
    /// `[batch, source]`, `true` where the source is padding.
    pub padding: Option<Tensor<2, Bool>>,
}

impl Source {
    /// Text without padding, `[batch, source]`.
    pub fn text(tokens: Tensor<2, Int>) -> Self {
        Self::Text {
            tokens,
            padding: None,
        }
    }

    /// Text with padding, `[batch, source]` both; `true` hides. An attention mask of transformers is the opposite.
    pub fn padded_text(tokens: Tensor<2, Int>, padding: Tensor<2, Bool>) -> Self {
        Self::Text {
            tokens,
            padding: Some(padding),
        }
    }
}

impl Seq2Seq {
    /// The first layer's input of a whole target.
    pub(super) fn embed_target(&self, tokens: Tensor<2, Int>) -> Result<Tensor<3>, AttentionError> {
        let positions = self.config.decoder.max_positions.unwrap_or(usize::MAX);
        check_tokens("target", &tokens, self.config.vocabulary, positions)?;
        self.embed_next(tokens, 0)
    }

    /// The first layer's input of tokens of the vocabulary, which follow `start` others.
    pub(super) fn embed_next(
        &self,
        tokens: Tensor<2, Int>,
        start: usize,
    ) -> Result<Tensor<3>, AttentionError> {
        let positions = self.config.decoder.max_positions.unwrap_or(usize::MAX);
        check_length("target", &tokens, positions.saturating_sub(start))?;
        Ok(self.decoder.embed(self.embedded(tokens), start))
    }

    /// The first layer's input of the source, and the source's padding.
    pub(super) fn embed_source(
        &self,
        source: Source,
    ) -> Result<(Tensor<3>, Option<Tensor<2, Bool>>), AttentionError> {
        let positions = self.config.encoder.max_positions.unwrap_or(usize::MAX);
        let refuse = |given: &str, accepted: &str| {
            Err(AttentionError::Value {
                argument: "source",
                given: given.into(),
                accepted: accepted.into(),
            })
        };
        match (source, &self.audio) {
            (Source::Text { tokens, padding }, None) => {
                check_tokens("source", &tokens, self.config.vocabulary, positions)?;
                if let Some(padding) = &padding {
                    check_shape("padding", &padding.dims(), &tokens.dims())?;
                }
                Ok((self.encoder.embed(self.embedded(tokens), 0), padding))
            }
            (Source::Audio(features), Some(audio)) => {
                self.check_features(&features, positions)?;
                Ok((self.encoder.embed(audio.forward(features), 0), None))
            }
            (Source::Text { .. }, Some(_)) => refuse("text", "sound"),
            (Source::Audio(_), None) => refuse("sound", "text"),
        }
    }

    fn check_features(&self, features: &Tensor<3>, positions: usize) -> Result<(), AttentionError> {
        let [batch, channels, frames] = features.dims();
        let expected = self.config.audio_channels.unwrap_or(channels);
        let fits = (1..=positions.saturating_mul(2)).contains(&frames);
        if batch == 0 || channels != expected || !fits {
            return Err(AttentionError::Shape {
                argument: "source",
                given: features.dims().to_vec(),
                accepted: format!(
                    "[batch, {expected}, frames] of 1 to {} frames",
                    positions.saturating_mul(2)
                ),
            });
        }
        Ok(())
    }

    fn embedded(&self, tokens: Tensor<2, Int>) -> Tensor<3> {
        let embedded = self.embedding.forward(tokens);
        match self.config.scaled_embeddings {
            true => embedded.mul_scalar((self.config.hidden_size as f64).sqrt()),
            false => embedded,
        }
    }
}
