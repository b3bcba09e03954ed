//! Differential attention in plain `f64`: the difference of two attentions over the same values.
//!
//! ```text
//! o1 = attention(q1, k1, v),    o2 = attention(q2, k2, v)
//! o  = o1 - lambda o2
//! ```
//!
//! Backward, for the upstream gradient `do`: that of map 1 starts from `do`, that of map 2 from
//! `-lambda do`, and `dlambda = -sum(do o2)`. What both maps read gets the sum of both gradients.
//!
//! Ye et al. 2024, <https://arxiv.org/abs/2410.05258>.

use super::array::{add_scaled, dot};
use super::{Mask4, Tensor4};
use crate::{AttentionError, AttentionSpec};

/// The tensors of one call.
#[derive(Debug, Clone, PartialEq)]
pub struct Inputs {
    /// Of each map, `[batch, heads, seq_q, head_dim]`.
    pub query: [Tensor4; 2],
    /// Of each map, `[batch, kv_heads, seq_kv, head_dim]`.
    pub key: [Tensor4; 2],
    /// `[batch, value_heads, seq_kv, value_dim]`
    pub value: Tensor4,
    /// One factor for all heads, or one for each.
    pub lambda: Vec<f64>,
    /// Of both maps, `[batch | 1, heads | 1, seq_q | 1, seq_kv | 1]`; `true` hides the key.
    pub mask: Option<Mask4>,
    /// Of both maps, `[batch | 1, heads | 1, seq_q | 1, seq_kv | 1]`, added to the scores.
    pub bias: Option<Tensor4>,
}

/// The gradients of `sum(out * grad_out)`, each in the shape of its input.
#[derive(Debug, Clone, PartialEq)]
pub struct Gradients {
    /// Of each map's query.
    pub query: [Tensor4; 2],
    /// Of each map's key.
    pub key: [Tensor4; 2],
    /// Summed over the maps.
    pub value: Tensor4,
    /// Summed over what shares a factor.
    pub lambda: Vec<f64>,
    /// Summed over the maps; `None` without a bias.
    pub bias: Option<Tensor4>,
}

impl Inputs {
    /// One of the maps as attention.
    fn map(&self, n: usize) -> super::Inputs {
        super::Inputs {
            query: self.query[n].clone(),
            key: self.key[n].clone(),
            value: self.value.clone(),
            mask: self.mask.clone(),
            bias: self.bias.clone(),
        }
    }

    fn check(&self) -> Result<(), AttentionError> {
        let shape_differs = |argument, given: &Tensor4, accepted: &Tensor4| {
            Err(AttentionError::Shape {
                argument,
                given: given.shape.to_vec(),
                accepted: format!("{:?}, that of map 1", accepted.shape),
            })
        };
        if self.query[1].shape != self.query[0].shape {
            return shape_differs("query[1]", &self.query[1], &self.query[0]);
        }
        if self.key[1].shape != self.key[0].shape {
            return shape_differs("key[1]", &self.key[1], &self.key[0]);
        }
        let heads = self.query[0].shape[1];
        if self.lambda.len() != 1 && self.lambda.len() != heads {
            return Err(AttentionError::Shape {
                argument: "lambda",
                given: vec![self.lambda.len()],
                accepted: format!("[1] or [{heads}]"),
            });
        }
        Ok(())
    }

    /// The factor that a head of `[batch, heads]` has among `lambda`.
    fn factor(&self, head: usize) -> usize {
        head % self.query[0].shape[1] % self.lambda.len()
    }
}

/// `[batch, heads, seq_q, value_dim]`: the difference of the two attentions.
///
/// # Errors
/// As [`forward`](super::forward) for each map, and [`AttentionError::Shape`] for maps that differ
/// in shape or another number of factors than 1 or the query's heads.
///
/// ```
/// use attention_core::{AttentionSpec, oracle::{Tensor4, differential}};
///
/// // Both maps give the mean of 1 and 5, and half of the second is taken away.
/// let zeros = |rows| Tensor4::zeros([1, 1, rows, 2]);
/// let inputs = differential::Inputs {
///     query: [zeros(1), zeros(1)],
///     key: [zeros(2), zeros(2)],
///     value: Tensor4::new([1, 1, 2, 1], vec![1.0, 5.0]),
///     lambda: vec![0.5],
///     mask: None,
///     bias: None,
/// };
/// let out = differential::forward(&inputs, &AttentionSpec::default())?;
/// assert_eq!(out.data, [1.5]);
/// # Ok::<(), attention_core::AttentionError>(())
/// ```
pub fn forward(inputs: &Inputs, spec: &AttentionSpec) -> Result<Tensor4, AttentionError> {
    inputs.check()?;
    let mut out = super::forward(&inputs.map(0), spec)?.out;
    let second = super::forward(&inputs.map(1), spec)?.out;
    let head_len = out.shape[2] * out.shape[3];
    let heads = out.data.chunks_mut(head_len.max(1));
    for (head, (out, second)) in heads.zip(second.data.chunks(head_len.max(1))).enumerate() {
        add_scaled(out, -inputs.lambda[inputs.factor(head)], second);
    }
    Ok(out)
}

/// The gradients of [`forward`]; `grad_out` is `[batch, heads, seq_q, value_dim]`.
///
/// # Errors
/// As [`forward`], and [`AttentionError::Shape`] for a `grad_out` of another shape than the output.
pub fn backward(
    inputs: &Inputs,
    spec: &AttentionSpec,
    grad_out: &Tensor4,
) -> Result<Gradients, AttentionError> {
    inputs.check()?;
    let first = super::backward(&inputs.map(0), spec, grad_out, None)?;
    let second_out = super::forward(&inputs.map(1), spec)?.out;
    let head_len = (grad_out.shape[2] * grad_out.shape[3]).max(1);
    let mut lambda = vec![0.0; inputs.lambda.len()];
    let mut grad_second = grad_out.clone();
    let heads = grad_second.data.chunks_mut(head_len);
    for (head, (grad, second)) in heads.zip(second_out.data.chunks(head_len)).enumerate() {
        let factor = inputs.factor(head);
        lambda[factor] -= dot(grad, second);
        grad.iter_mut()
            .for_each(|grad| *grad *= -inputs.lambda[factor]);
    }
    let second = super::backward(&inputs.map(1), spec, &grad_second, None)?;

    let mut value = first.value;
    add_scaled(&mut value.data, 1.0, &second.value.data);
    let bias = first.bias.zip(second.bias).map(|(mut first, second)| {
        add_scaled(&mut first.data, 1.0, &second.data);
        first
    });
    Ok(Gradients {
        query: [first.query, second.query],
        key: [first.key, second.key],
        value,
        lambda,
        bias,
    })
}
