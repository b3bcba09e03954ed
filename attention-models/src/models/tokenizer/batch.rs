use burn::tensor::{Bool, Device, Int, Tensor, TensorData};

use super::{Tokenizer, TokenizerError};

/// On which side short rows of a batch are filled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// Before the text: for decoders, which go on at its end.
    Left,
    /// After the text: for encoders.
    Right,
}

/// How long the rows of a batch are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Length {
    /// As the longest text.
    Longest,
    /// This long; a longer text is refused.
    Exactly(usize),
}

/// Texts as rows of equal length.
#[derive(Debug, Clone)]
pub struct Batch {
    /// `[texts, length]`: the numbers of the tokens.
    pub ids: Tensor<2, Int>,
    /// `[texts, length]`: true for what fills a row, which attention has to leave out.
    pub padding: Tensor<2, Bool>,
    /// How many tokens each text became.
    pub lengths: Vec<usize>,
}

impl Tokenizer {
    /// Splits texts as [`encode`](Self::encode) does, and fills the rows.
    ///
    /// # Errors
    ///
    /// [`TokenizerError::Text`] for a text that the vocabulary cannot express, for one that is
    /// longer than the rows, and for no text at all.
    pub fn batch<T: AsRef<str>>(
        &self,
        texts: &[T],
        length: Length,
        side: Side,
        device: &Device,
    ) -> Result<Batch, TokenizerError> {
        let rows = texts
            .iter()
            .map(|text| self.encode(text.as_ref()).map(|encoded| encoded.ids))
            .collect::<Result<Vec<_>, _>>()?;
        self.fill(&rows, length, side, device)
    }

    /// Fills rows of tokens.
    ///
    /// # Errors
    ///
    /// [`TokenizerError::Text`] for a row that is longer than asked for, and for no rows.
    pub fn fill(
        &self,
        rows: &[Vec<u32>],
        length: Length,
        side: Side,
        device: &Device,
    ) -> Result<Batch, TokenizerError> {
        let longest = rows.iter().map(Vec::len).max().unwrap_or(0);
        let length = match length {
            Length::Longest => longest,
            Length::Exactly(length) => length,
        };
        if length == 0 || longest > length {
            return Err(TokenizerError::Text {
                reason: format!("the longest text has {longest} tokens; accepted: 1 to {length}"),
            });
        }
        let mut ids = Vec::with_capacity(rows.len() * length);
        let mut padding = Vec::with_capacity(rows.len() * length);
        for row in rows {
            let filled = length - row.len();
            let (before, after) = match side {
                Side::Left => (filled, 0),
                Side::Right => (0, filled),
            };
            let text = row.iter().map(|id| (*id, false));
            let fill = |count| std::iter::repeat_n((self.padding_id(), true), count);
            for (id, hidden) in fill(before).chain(text).chain(fill(after)) {
                ids.push(i64::from(id));
                padding.push(hidden);
            }
        }
        let shape = [rows.len(), length];
        Ok(Batch {
            ids: Tensor::from_data(TensorData::new(ids, shape), device),
            padding: Tensor::from_data(TensorData::new(padding, shape), device),
            lengths: rows.iter().map(Vec::len).collect(),
        })
    }
}
