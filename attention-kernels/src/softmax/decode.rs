//! One query of each head, as in decoding: the heads that share keys and values become the rows of one, which reads
//! them once.

use attention_core::{AttentionProblem, AttentionSpec};

use super::tensors::Inputs;
use crate::TensorRef;

/// The same call with a head for each head of keys and a row for each query head that it serves, where there is one
/// query. Code sees heads and queries as they are; causality has to hide nothing.
pub(super) fn heads_as_rows(
    inputs: &Inputs,
    problem: &AttentionProblem,
    spec: &AttentionSpec,
) -> Option<(Inputs, AttentionSpec)> {
    let group = problem.group_size();
    let code = &inputs.modification.code;
    let plain = !(code.modifies() || code.masks() || code.reweighs()) && inputs.block_map.is_none();
    let last_seen = problem.causal_offset(spec.causal);
    let sees_all = last_seen.is_none_or(|key| key + 1 >= problem.seq_kv as isize);
    if problem.seq_q != 1 || group == 1 || !plain || !sees_all {
        return None;
    }
    let with_rows = |tensor: &TensorRef| as_rows(tensor, group);
    let inputs = Inputs {
        query: with_rows(&inputs.query),
        mask: inputs.mask.as_ref().map(with_rows),
        bias: inputs.bias.as_ref().map(with_rows),
        ..inputs.clone()
    };
    Some((
        inputs,
        AttentionSpec {
            causal: None,
            ..*spec
        },
    ))
}

/// A view of a tensor with one query; one without heads of its own has none to turn.
fn as_rows(tensor: &TensorRef, group: usize) -> TensorRef {
    let [batch, heads, _, dim] = tensor.shape;
    let [of_batch, of_head, _, of_dim] = tensor.strides;
    if heads == 1 {
        return tensor.clone();
    }
    TensorRef {
        shape: [batch, heads / group, group, dim],
        strides: [of_batch, group * of_head, of_head, of_dim],
        ..tensor.clone()
    }
}
