//! Gradients of query, key, value and bias.

use super::array::{add_scaled, dot};
use super::heads::for_each_head;
use super::rows::Rows;
use super::{Inputs, Modification, Tensor4};
use crate::{AttentionError, AttentionProblem, AttentionSpec};

/// The gradients of `sum(out * grad_out) + sum(lse * grad_lse)`.
#[derive(Debug, Clone, PartialEq)]
pub struct Gradients {
    /// `[batch, heads, seq_q, head_dim]`
    pub query: Tensor4,
    /// `[batch, kv_heads, seq_kv, head_dim]`
    pub key: Tensor4,
    /// `[batch, value_heads, seq_kv, value_dim]`
    pub value: Tensor4,
    /// The bias' own shape, summed over the dimensions in which it is broadcast; `None` without a
    /// bias.
    pub bias: Option<Tensor4>,
}

/// Attention's gradients, as the [module](super) defines them.
///
/// `grad_out` is `[batch, heads, seq_q, value_dim]`; `grad_lse` is `[batch, heads, seq_q]`
/// row-major, and absent means zeros. What either holds for a query that sees no key is not read.
///
/// # Errors
/// As [`forward`](super::forward), and the same for a `grad_out` or `grad_lse` that has not the
/// shape of what it is the gradient of.
///
/// ```
/// use attention_core::{AttentionSpec, oracle};
///
/// // Two equal keys: the value's gradient is half the output's for each of them.
/// let inputs = oracle::Inputs {
///     query: oracle::Tensor4::zeros([1, 1, 1, 2]),
///     key: oracle::Tensor4::zeros([1, 1, 2, 2]),
///     value: oracle::Tensor4::new([1, 1, 2, 1], vec![1.0, 5.0]),
///     mask: None,
///     bias: None,
/// };
/// let grad_out = oracle::Tensor4::new([1, 1, 1, 1], vec![3.0]);
/// let gradients = oracle::backward(&inputs, &AttentionSpec::default(), &grad_out, None)?;
/// assert_eq!(gradients.value.data, [1.5, 1.5]);
/// # Ok::<(), attention_core::AttentionError>(())
/// ```
pub fn backward(
    inputs: &Inputs,
    spec: &AttentionSpec,
    grad_out: &Tensor4,
    grad_lse: Option<&[f64]>,
) -> Result<Gradients, AttentionError> {
    backward_modified(inputs, spec, Modification::default(), grad_out, grad_lse)
}

/// [`backward`] with a score modification and a mask as functions.
///
/// # Errors
/// As [`backward`].
pub fn backward_modified(
    inputs: &Inputs,
    spec: &AttentionSpec,
    modification: Modification,
    grad_out: &Tensor4,
    grad_lse: Option<&[f64]>,
) -> Result<Gradients, AttentionError> {
    let rows = Rows::new(inputs, spec, modification)?;
    let upstream = Upstream::new(&rows.problem, grad_out, grad_lse)?;
    let heads = for_each_head(&rows.problem, |batch, head| {
        head_backward(&rows, &upstream, batch, head)
    });

    let mut total = Gradients {
        query: Tensor4::zeros(inputs.query.shape),
        key: Tensor4::zeros(inputs.key.shape),
        value: Tensor4::zeros(inputs.value.shape),
        bias: inputs.bias.as_ref().map(|b| Tensor4::zeros(b.shape)),
    };
    for (n, of_head) in heads.iter().enumerate() {
        let (batch, head) = (n / rows.problem.heads, n % rows.problem.heads);
        let (kv_head, value_head) = (rows.kv_head(head), rows.value_head(head));
        add_scaled(total.query.head_mut(batch, head), 1.0, &of_head.query.data);
        add_scaled(total.key.head_mut(batch, kv_head), 1.0, &of_head.key.data);
        add_scaled(
            total.value.head_mut(batch, value_head),
            1.0,
            &of_head.value.data,
        );
        if let (Some(bias), Some(scores)) = (&mut total.bias, &of_head.bias) {
            for (m, grad_score) in scores.data.iter().enumerate() {
                let (i, j) = (m / rows.problem.seq_kv, m % rows.problem.seq_kv);
                *bias.get_mut([batch, head, i, j]) += grad_score;
            }
        }
    }
    Ok(total)
}

/// What one query head adds to the gradients: every tensor has a single batch element and head, and
/// the bias' gradient is that of the scores, `[1, 1, seq_q, seq_kv]`.
fn head_backward(rows: &Rows, upstream: &Upstream, batch: usize, head: usize) -> Gradients {
    let Rows {
        inputs, problem, ..
    } = rows;
    let (kv_head, value_head) = (rows.kv_head(head), rows.value_head(head));
    let mut gradients = Gradients {
        query: Tensor4::zeros([1, 1, problem.seq_q, problem.head_dim]),
        key: Tensor4::zeros([1, 1, problem.seq_kv, problem.head_dim]),
        value: Tensor4::zeros([1, 1, problem.seq_kv, problem.value_dim]),
        bias: inputs
            .bias
            .as_ref()
            .map(|_| Tensor4::zeros([1, 1, problem.seq_q, problem.seq_kv])),
    };
    for i in 0..problem.seq_q {
        let keys = rows.row(batch, head, i).keys;
        let query = inputs.query.row(batch, head, i);
        let grad_out = upstream.out.row(batch, head, i);
        let grad_lse = upstream.lse([batch, head, i]);

        let grad_probabilities: Vec<f64> = keys
            .iter()
            .map(|key| {
                key.factor * dot(grad_out, inputs.value.row(batch, value_head, key.position))
            })
            .collect();
        let mean: f64 = keys
            .iter()
            .zip(&grad_probabilities)
            .map(|(key, grad_probability)| key.probability * grad_probability)
            .sum();

        for (key, grad_probability) in keys.iter().zip(grad_probabilities) {
            let j = key.position;
            let grad_score = key.probability * (grad_probability - mean + grad_lse);
            let grad_dot = rows.scale * key.slope * grad_score;
            let key_row = inputs.key.row(batch, kv_head, j);
            add_scaled(gradients.query.row_mut(0, 0, i), grad_dot, key_row);
            add_scaled(gradients.key.row_mut(0, 0, j), grad_dot, query);
            let weight = key.probability * key.factor;
            add_scaled(gradients.value.row_mut(0, 0, j), weight, grad_out);
            if let Some(scores) = &mut gradients.bias {
                *scores.get_mut([0, 0, i, j]) = grad_score;
            }
        }
    }
    gradients
}

/// The gradients that come in, checked.
struct Upstream<'a> {
    problem: &'a AttentionProblem,
    out: &'a Tensor4,
    lse: Option<&'a [f64]>,
}

impl<'a> Upstream<'a> {
    fn new(
        problem: &'a AttentionProblem,
        out: &'a Tensor4,
        lse: Option<&'a [f64]>,
    ) -> Result<Self, AttentionError> {
        let out_shape = problem.output_shape();
        if out.shape != out_shape {
            return Err(AttentionError::Shape {
                argument: "grad_out",
                given: out.shape.to_vec(),
                accepted: format!("{out_shape:?}, the output's shape"),
            });
        }
        out.check_len("grad_out")?;

        let lse_shape = problem.lse_shape();
        if let Some(lse) = lse
            && lse.len() != lse_shape.iter().product()
        {
            return Err(AttentionError::Shape {
                argument: "grad_lse",
                given: vec![lse.len()],
                accepted: format!("as many elements as {lse_shape:?} has"),
            });
        }
        Ok(Self { problem, out, lse })
    }

    fn lse(&self, [batch, head, i]: [usize; 3]) -> f64 {
        let offset = (batch * self.problem.heads + head) * self.problem.seq_q + i;
        self.lse.map_or(0.0, |lse| lse[offset])
    }
}
