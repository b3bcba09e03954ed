//! What the kernels of attention do, counted as they are written.

use crate::{AttentionProblem, AttentionSpec, DType, backward_cost, forward_cost};

/// Queries, or keys in the walk over keys, that a cube owns on a GPU.
pub const ROWS_PER_CUBE: usize = 64;

/// Vector instructions of a lane for a score in the forward: the maximum, scale and subtraction fused, the sum, the
/// conversion.
const FORWARD: u64 = 4;
/// In the walk over queries: scale and subtraction fused, `delta` taken away, the product with the probability, the
/// conversion.
const QUERY_WALK: u64 = 4;
/// In the walk over keys: the same, and the conversion of the probability.
const KEY_WALK: u64 = 5;
/// Vector instructions of an exponential where no unit computes it: the polynomial of the kernels.
pub(super) const VECTOR_PER_EXPONENTIAL: f64 = 17.0;

/// What one kernel does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Work {
    /// Which step of attention it is.
    pub kernel: &'static str,
    /// Of the tensors.
    pub dtype: DType,
    /// Operations of matrix products, an addition and a multiplication counted as two.
    pub products: u64,
    /// One for each score.
    pub exponentials: u64,
    /// Instructions of single lanes, without the exponentials.
    pub vector: u64,
    /// Bytes between memory and chip when every tensor is moved once: what is read again comes from a cache.
    pub bytes: u64,
    /// Cubes that have rows of their own.
    pub cubes: u64,
}

/// The forward's one kernel.
pub fn forward_work(problem: &AttentionProblem, spec: &AttentionSpec, dtype: DType) -> Work {
    let cost = forward_cost(problem, spec, dtype);
    let scores = scores(problem, spec);
    Work {
        kernel: "forward",
        dtype,
        products: cost.flops,
        exponentials: scores,
        vector: FORWARD.saturating_mul(scores),
        bytes: cost.bytes,
        cubes: cubes(problem, problem.seq_q),
    }
}

/// The backward's two large kernels. Each computes scores and probabilities again, so that together they multiply seven
/// times where five would do, and nothing is added to with atomics.
pub fn backward_work(problem: &AttentionProblem, spec: &AttentionSpec, dtype: DType) -> [Work; 2] {
    let scores = scores(problem, spec);
    let bytes = backward_cost(problem, spec, dtype).bytes;
    let (key, value) = (problem.head_dim as u64, problem.value_dim as u64);
    let products = |width: u64| scores.saturating_mul(2 * width);
    [
        Work {
            kernel: "backward_query",
            dtype,
            products: products(2 * key + value),
            exponentials: scores,
            vector: QUERY_WALK.saturating_mul(scores),
            bytes,
            cubes: cubes(problem, problem.seq_q),
        },
        Work {
            kernel: "backward_key",
            dtype,
            products: products(2 * key + 2 * value),
            exponentials: scores,
            vector: KEY_WALK.saturating_mul(scores),
            bytes,
            cubes: cubes(problem, problem.seq_kv),
        },
    ]
}

fn scores(problem: &AttentionProblem, spec: &AttentionSpec) -> u64 {
    let heads = (problem.batch as u64).saturating_mul(problem.heads as u64);
    heads.saturating_mul(problem.visible_pairs(spec.causal))
}

fn cubes(problem: &AttentionProblem, rows: usize) -> u64 {
    let heads = (problem.batch as u64).saturating_mul(problem.heads as u64);
    heads.saturating_mul(rows.div_ceil(ROWS_PER_CUBE) as u64)
}
