//! What attention costs at least: multiply-adds and memory traffic.

use crate::{AttentionProblem, AttentionSpec, DType};

/// Bytes of one log-sum-exp, which is `f32` whatever the inputs are.
const LSE_BYTES: u64 = 4;

/// Floating-point operations and bytes of one call.
///
/// ```
/// use attention_core::{AttentionProblem, AttentionSpec, DType, forward_cost};
///
/// let problem = AttentionProblem {
///     batch: 1,
///     heads: 8,
///     kv_heads: 8,
///     value_heads: 8,
///     seq_q: 1024,
///     seq_kv: 1024,
///     head_dim: 64,
///     value_dim: 64,
/// };
/// let cost = forward_cost(&problem, &AttentionSpec::default(), DType::F16);
/// assert_eq!(cost.flops, 4 * 8 * 1024 * 1024 * 64);
/// // 508 operations for each byte: bound by arithmetic on almost any machine.
/// assert_eq!(cost.intensity().round(), 508.0);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cost {
    /// Operations of the matrix products, an addition and a multiplication counted as two. Softmax,
    /// softcap, bias and masks are not counted, nor are pairs that the causal diagonal hides.
    pub flops: u64,
    /// Bytes between memory and chip when every tensor is moved once. Masks and biases are not
    /// counted.
    pub bytes: u64,
}

impl Cost {
    /// Operations per byte: the place on the horizontal axis of a roofline plot (Williams et al.
    /// 2009, <https://doi.org/10.1145/1498765.1498785>). 0 when nothing is moved.
    pub fn intensity(&self) -> f64 {
        if self.bytes == 0 {
            return 0.0;
        }
        self.flops as f64 / self.bytes as f64
    }
}

/// The cost of the output and the log-sum-exp.
///
/// Two products, `q k^T` and `p v`: `2 pairs (head_dim + value_dim)` operations for each head,
/// with the [visible pairs](AttentionProblem::visible_pairs). Query, key and value are read, output
/// and log-sum-exp are written, key and value with their own numbers of heads.
pub fn forward_cost(problem: &AttentionProblem, spec: &AttentionSpec, dtype: DType) -> Cost {
    Cost {
        flops: flops(problem, spec, 1, 1),
        bytes: bytes(problem, dtype, 1),
    }
}

/// The cost of the gradients of query, key and value.
///
/// Five products, with the probabilities computed again from the log-sum-exp: `q k^T`, `dx k`,
/// `dx^T q`, `do v^T` and `p^T do`, so `2 pairs (3 head_dim + 2 value_dim)` operations for each
/// head. Query, key, value, output, its gradient and the log-sum-exp are read, three gradients are
/// written.
pub fn backward_cost(problem: &AttentionProblem, spec: &AttentionSpec, dtype: DType) -> Cost {
    Cost {
        flops: flops(problem, spec, 3, 2),
        // Each of query, key, value and output beside its gradient.
        bytes: bytes(problem, dtype, 2),
    }
}

/// Operations of so many products as deep or wide as a key, and so many as a value.
fn flops(
    problem: &AttentionProblem,
    spec: &AttentionSpec,
    key_products: usize,
    value_products: usize,
) -> u64 {
    let width = key_products * problem.head_dim + value_products * problem.value_dim;
    product(&[2, problem.batch, problem.heads, width])
        .saturating_mul(problem.visible_pairs(spec.causal))
}

/// Bytes when query, key, value and output move so many times, and the log-sum-exp once.
fn bytes(problem: &AttentionProblem, dtype: DType, times: u64) -> u64 {
    [
        problem.query_shape(),
        problem.key_shape(),
        problem.value_shape(),
        problem.output_shape(),
    ]
    .iter()
    .map(|shape| product(shape))
    .fold(0, u64::saturating_add)
    .saturating_mul(times * dtype.bytes() as u64)
    .saturating_add(product(&problem.lse_shape()).saturating_mul(LSE_BYTES))
}

/// The product of these sizes, `u64::MAX` if it is larger.
fn product(sizes: &[usize]) -> u64 {
    sizes
        .iter()
        .fold(1, |product, &size| product.saturating_mul(size as u64))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::CausalAlignment::{BottomRight, TopLeft};

    const GROUPED: AttentionProblem = AttentionProblem {
        batch: 2,
        heads: 6,
        kv_heads: 3,
        value_heads: 3,
        seq_q: 5,
        seq_kv: 7,
        head_dim: 4,
        value_dim: 3,
    };

    #[test]
    fn forward_counts_two_products_for_every_query_head() {
        let cost = forward_cost(&GROUPED, &AttentionSpec::default(), DType::F32);
        assert_eq!(cost.flops, 2 * (2 * 6) * (5 * 7) * (4 + 3));
    }

    #[test]
    fn backward_counts_five_products_for_every_query_head() {
        let cost = backward_cost(&GROUPED, &AttentionSpec::default(), DType::F32);
        assert_eq!(cost.flops, 2 * (2 * 6) * (5 * 7) * (3 * 4 + 2 * 3));
    }

    #[test]
    fn forward_moves_each_tensor_once_with_its_own_number_of_heads() {
        let query = 2 * 6 * 5 * 4;
        let key = 2 * 3 * 7 * 4;
        let value = 2 * 3 * 7 * 3;
        let out = 2 * 6 * 5 * 3;
        let lse = 2 * 6 * 5;
        let spec = AttentionSpec::default();
        let elements = query + key + value + out;
        assert_eq!(
            forward_cost(&GROUPED, &spec, DType::F32).bytes,
            4 * elements + 4 * lse
        );
        assert_eq!(
            forward_cost(&GROUPED, &spec, DType::BF16).bytes,
            2 * elements + 4 * lse
        );
    }

    #[test]
    fn backward_moves_each_tensor_and_its_gradient() {
        let spec = AttentionSpec::default();
        let forward = forward_cost(&GROUPED, &spec, DType::F16).bytes;
        let lse = 4 * 2 * 6 * 5;
        assert_eq!(
            backward_cost(&GROUPED, &spec, DType::F16).bytes,
            2 * (forward - lse) + lse
        );
    }

    #[test]
    fn causal_attention_costs_the_pairs_under_its_diagonal() {
        let flops = |causal| {
            let spec = AttentionSpec::default().with_causal(causal);
            forward_cost(&GROUPED, &spec, DType::F32).flops
        };
        let per_pair = 2 * (2 * 6) * (4 + 3);
        assert_eq!(flops(TopLeft), per_pair * (1 + 2 + 3 + 4 + 5));
        assert_eq!(flops(BottomRight), per_pair * (3 + 4 + 5 + 6 + 7));
    }

    #[test]
    fn intensity_is_operations_per_byte() {
        assert_eq!(Cost { flops: 9, bytes: 6 }.intensity(), 1.5);
    }

    #[test]
    fn an_empty_call_moves_nothing_and_has_intensity_zero() {
        let empty = AttentionProblem {
            seq_q: 0,
            seq_kv: 0,
            ..GROUPED
        };
        let cost = forward_cost(&empty, &AttentionSpec::default(), DType::F32);
        assert_eq!(cost, Cost { flops: 0, bytes: 0 });
        assert_eq!(cost.intensity(), 0.0);
    }

    #[test]
    fn a_problem_too_large_to_count_stays_at_the_largest_count() {
        let huge = AttentionProblem {
            seq_q: usize::MAX,
            seq_kv: usize::MAX,
            ..GROUPED
        };
        let cost = backward_cost(&huge, &AttentionSpec::default(), DType::F32);
        assert_eq!(
            cost,
            Cost {
                flops: u64::MAX,
                bytes: u64::MAX
            }
        );
    }
}
