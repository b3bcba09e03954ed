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
) -> Option<(Inputs, AttentionProblem, AttentionSpec)> {
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
    let problem = AttentionProblem {
        heads: problem.kv_heads,
        seq_q: group,
        ..*problem
    };
    let spec = AttentionSpec {
        causal: None,
        ..*spec
    };
    Some((inputs, problem, spec))
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

#[cfg(all(test, feature = "cpu"))]
mod tests {
    use attention_core::CausalAlignment;
    use cubecl::Device;

    use super::*;
    use crate::softmax::bind::{F32, empty};

    /// A call of 6 heads, 2 of keys, and what it becomes.
    fn turned(seq_q: usize, causal: Option<CausalAlignment>) -> Option<Inputs> {
        let client = Device::cpu().expect("the feature is on").client();
        let tensor = |shape: [usize; 4]| {
            let handle = empty(&client, shape.iter().product(), F32);
            TensorRef::contiguous(handle, shape, F32)
        };
        let keys = tensor([3, 2, 5, 8]);
        let mut inputs = Inputs::new(tensor([3, 6, seq_q, 8]), keys.clone(), keys);
        inputs.mask = Some(tensor([3, 1, 1, 5]));
        inputs.bias = Some(tensor([1, 6, seq_q, 5]));
        let problem = inputs.shapes().validate().expect("shapes fit");
        let spec = AttentionSpec {
            causal,
            ..AttentionSpec::default()
        };
        let (inputs, problem, spec) = heads_as_rows(&inputs, &problem, &spec)?;
        assert_eq!(spec.causal, None);
        assert_eq!(inputs.shapes().validate().ok(), Some(problem));
        Some(inputs)
    }

    #[test]
    fn the_heads_of_one_query_are_rows_of_their_keys_head() {
        for causal in [None, Some(CausalAlignment::BottomRight)] {
            let inputs = turned(1, causal).expect("one query sees every key");
            assert_eq!(inputs.query.shape, [3, 2, 3, 8]);
            assert_eq!(inputs.query.strides, [48, 24, 8, 1]);
            assert_eq!(inputs.mask.map(|mask| mask.shape), Some([3, 1, 1, 5]));
            let bias = inputs.bias.expect("it was given");
            assert_eq!((bias.shape, bias.strides), ([1, 2, 3, 5], [30, 15, 5, 1]));
        }
    }

    #[test]
    fn heads_stay_heads_where_queries_see_different_keys() {
        assert!(turned(1, Some(CausalAlignment::TopLeft)).is_none());
        assert!(turned(2, None).is_none());
    }
}
