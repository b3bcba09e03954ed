use super::{Tokenizer, TokenizerError, error};

/// The text of tokens that arrive one after the other: a token may end within a character, whose
/// text then waits for the next.
#[derive(Debug)]
pub struct TextStream<'a> {
    tokenizer: &'a Tokenizer,
    ids: Vec<u32>,
    prefix: String,
    prefix_index: usize,
}

impl<'a> TextStream<'a> {
    pub(super) fn new(tokenizer: &'a Tokenizer) -> Self {
        Self {
            tokenizer,
            ids: Vec::new(),
            prefix: String::new(),
            prefix_index: 0,
        }
    }

    /// The text that this token completes, if it completes any.
    ///
    /// # Errors
    ///
    /// [`TokenizerError::Text`] for a token that is no text.
    pub fn push(&mut self, id: u32) -> Result<Option<String>, TokenizerError> {
        tokenizers::step_decode_stream(
            &self.tokenizer.inner,
            vec![id],
            true,
            &mut self.ids,
            &mut self.prefix,
            &mut self.prefix_index,
        )
        .map_err(error::of_text)
    }
}
