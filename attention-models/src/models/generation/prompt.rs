use attention_core::AttentionError;
use burn::tensor::{Device, Int, Tensor, TensorData};

/// A batch of token sequences, made equally long by padding on the left.
///
/// ```
/// use attention_models::models::generation::Prompt;
///
/// let prompt = Prompt::left_padded(&[vec![5, 6, 7], vec![8]], 0)?;
/// assert_eq!(prompt.rows(), [[5, 6, 7], [0, 0, 8]]);
/// assert_eq!(prompt.padding(), [0, 2]);
/// # Ok::<(), attention_models::ops::AttentionError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prompt {
    rows: Vec<Vec<i64>>,
    padding: Vec<usize>,
}

impl Prompt {
    /// Shorter sequences get `pad` in front.
    ///
    /// # Errors
    /// [`AttentionError::Shape`] unless each of at least one sequence has a token.
    pub fn left_padded(sequences: &[Vec<i64>], pad: i64) -> Result<Self, AttentionError> {
        if sequences.is_empty() || sequences.iter().any(Vec::is_empty) {
            return Err(AttentionError::Shape {
                argument: "prompt",
                given: sequences.iter().map(Vec::len).collect(),
                accepted: "at least one sequence, each of at least one token".into(),
            });
        }
        let longest = sequences.iter().map(Vec::len).max().unwrap_or(0);
        let padding: Vec<_> = sequences.iter().map(|row| longest - row.len()).collect();
        let rows = sequences.iter().zip(&padding).map(|(row, &count)| {
            let mut padded = vec![pad; count];
            padded.extend(row);
            padded
        });
        Ok(Self {
            rows: rows.collect(),
            padding,
        })
    }

    /// The sequences with their padding.
    pub fn rows(&self) -> &[Vec<i64>] {
        &self.rows
    }

    /// How much padding each sequence has.
    pub fn padding(&self) -> &[usize] {
        &self.padding
    }

    /// Tokens of each sequence, the padding among them.
    pub fn length(&self) -> usize {
        self.rows[0].len()
    }

    /// `[batch, length]`
    pub fn tokens(&self, device: &Device) -> Tensor<2, Int> {
        tokens(&self.rows, device)
    }
}

/// Rows of equal length on a device.
pub(super) fn tokens(rows: &[Vec<i64>], device: &Device) -> Tensor<2, Int> {
    let shape = [rows.len(), rows.first().map_or(0, Vec::len)];
    Tensor::from_data(TensorData::new(rows.concat(), shape), device)
}
