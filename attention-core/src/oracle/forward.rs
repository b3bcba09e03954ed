//! Outputs, log-sum-exp and probabilities.

use super::array::add_scaled;
use super::heads::for_each_head;
use super::rows::Rows;
use super::{Inputs, Modification, Tensor4};
use crate::{AttentionError, AttentionSpec};

/// What attention gives.
#[derive(Debug, Clone, PartialEq)]
pub struct Output {
    /// `[batch, heads, seq_q, value_dim]`
    pub out: Tensor4,
    /// `[batch, heads, seq_q]`, row-major: the natural logarithm of the sum of `exp(score)` over
    /// the keys that the query sees, `-inf` where it sees none.
    pub lse: Vec<f64>,
}

/// Attention's output and log-sum-exp, as the [module](super) defines them.
///
/// # Errors
/// [`AttentionError::Shape`] when the tensors do not fit each other, [`AttentionError::Value`] when
/// an option is outside its domain or a tensor's data does not fill its shape.
pub fn forward(inputs: &Inputs, spec: &AttentionSpec) -> Result<Output, AttentionError> {
    forward_modified(inputs, spec, Modification::default())
}

/// [`forward`] with a score modification and a mask as functions.
///
/// # Errors
/// As [`forward`].
pub fn forward_modified(
    inputs: &Inputs,
    spec: &AttentionSpec,
    modification: Modification,
) -> Result<Output, AttentionError> {
    let rows = Rows::new(inputs, spec, modification)?;
    let heads = for_each_head(&rows.problem, |batch, head| {
        head_forward(&rows, batch, head)
    });
    let (out, lse): (Vec<_>, Vec<_>) = heads.into_iter().unzip();
    Ok(Output {
        out: Tensor4::new(rows.problem.output_shape(), out.concat()),
        lse: lse.concat(),
    })
}

/// The output `[seq_q, value_dim]` and the log-sum-exp `[seq_q]` of one head.
fn head_forward(rows: &Rows, batch: usize, head: usize) -> (Vec<f64>, Vec<f64>) {
    let value = &rows.inputs.value;
    let mut out = Vec::new();
    let mut lse = Vec::new();
    for i in 0..rows.problem.seq_q {
        let row = rows.row(batch, head, i);
        let mut out_row = vec![0.0; rows.problem.value_dim];
        for key in &row.keys {
            let value_row = value.row(batch, rows.value_head(head), key.position);
            add_scaled(&mut out_row, key.probability * key.factor, value_row);
        }
        out.extend(out_row);
        lse.push(row.lse);
    }
    (out, lse)
}

/// The probabilities `[batch, heads, seq_q, seq_kv]`: 0 for a key that the query does not see, and
/// a sum of 1 over the keys of every query that sees any.
///
/// # Errors
/// As [`forward`].
pub fn probabilities(inputs: &Inputs, spec: &AttentionSpec) -> Result<Tensor4, AttentionError> {
    let rows = Rows::new(inputs, spec, Modification::default())?;
    let problem = rows.problem;
    let mut matrix = Tensor4::zeros(problem.scores_shape());
    for batch in 0..problem.batch {
        for head in 0..problem.heads {
            for i in 0..problem.seq_q {
                for key in rows.row(batch, head, i).keys {
                    *matrix.get_mut([batch, head, i, key.position]) = key.probability;
                }
            }
        }
    }
    Ok(matrix)
}
