use std::ops::Range;

use attention_core::AttentionError;
use burn::tensor::{Device, Int, Tensor, TensorData};

/// The positions of tokens: one row for all sequences of a batch, or a row for each.
///
/// ```
/// use attention_models::models::blocks::Positions;
///
/// // The second of two sequences has two tokens of padding on its left.
/// let positions = Positions::left_padded(0..4, &[0, 2]);
/// assert_eq!(positions.rows(), [[0, 1, 2, 3], [0, 0, 0, 1]]);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Positions {
    rows: Vec<Vec<usize>>,
}

impl Positions {
    /// The same range in every sequence.
    pub fn range(range: Range<usize>) -> Self {
        Self {
            rows: vec![range.collect()],
        }
    }

    /// Sequences that begin after so many tokens of padding, which have position 0; `range` counts
    /// the padding.
    pub fn left_padded(range: Range<usize>, padding: &[usize]) -> Self {
        if padding.iter().all(|count| *count == 0) {
            return Self::range(range);
        }
        let row = |count: &usize| range.clone().map(|at| at.saturating_sub(*count)).collect();
        Self {
            rows: padding.iter().map(row).collect(),
        }
    }

    /// One row, or a row for each sequence.
    ///
    /// # Errors
    /// [`AttentionError::Value`] unless there is a row and all are equally long.
    pub fn of(rows: Vec<Vec<usize>>) -> Result<Self, AttentionError> {
        let mut lengths = rows.iter().map(Vec::len);
        let first = lengths.next();
        if first.is_none() || lengths.any(|length| Some(length) != first) {
            return Err(AttentionError::Value {
                argument: "rows",
                given: format!(
                    "of lengths {:?}",
                    rows.iter().map(Vec::len).collect::<Vec<_>>()
                ),
                accepted: "at least one row, all of the same length".into(),
            });
        }
        Ok(Self { rows })
    }

    /// One row, or a row for each sequence.
    pub fn rows(&self) -> &[Vec<usize>] {
        &self.rows
    }

    /// How many tokens there are in each sequence.
    pub fn length(&self) -> usize {
        self.rows[0].len()
    }

    /// One more than the largest position; 0 without tokens.
    pub fn end(&self) -> usize {
        let positions = self.rows.iter().flatten();
        positions.max().map_or(0, |last| last + 1)
    }

    /// `[batch | 1, tokens]`, to look positions up in a table.
    pub fn ids(&self, device: &Device) -> Tensor<2, Int> {
        let shape = [self.rows.len(), self.length()];
        let ids: Vec<i64> = self.rows.iter().flatten().map(|&at| at as i64).collect();
        Tensor::from_data(TensorData::new(ids, shape), device)
    }
}
