//! Text from a model of the next token: greedy, sampled, or by beam search, for batches, streamed.
//!
//! A model implements [`LanguageModel`]: it takes new tokens and its state, which remembers the old
//! ones, and gives the logits of what comes next.

mod beam;
mod config;
mod processors;
mod prompt;
mod sampler;
mod stream;

pub use beam::{BeamConfig, EarlyStopping, beam_search};
pub use config::{GenerationConfig, Sampling};
pub use prompt::Prompt;
pub use stream::{TokenStream, generate, stream};

use attention_core::AttentionError;
use burn::tensor::{Device, Int, Tensor};

/// A model that says which token comes next.
pub trait LanguageModel {
    /// What it remembers of the tokens that it has seen.
    type State: GenerationState;

    /// Takes in `tokens` `[batch, new]`, which follow those in `state`, and returns the logits of the
    /// token after them, `[batch, vocabulary]`.
    ///
    /// # Errors
    /// More tokens than the model has positions for, or than the state has room for.
    fn next_logits(
        &self,
        tokens: Tensor<2, Int>,
        state: &mut Self::State,
    ) -> Result<Tensor<2>, AttentionError>;

    /// Where it runs.
    fn device(&self) -> Device;
}

/// What a model remembers of a batch of sequences.
pub trait GenerationState {
    /// Makes sequence `n` what sequence `rows[n]` was; a row may be taken several times.
    fn select(&mut self, rows: &[usize]);
}
