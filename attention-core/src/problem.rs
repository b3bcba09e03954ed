//! The sizes of one attention call, checked once.

use serde::{Deserialize, Serialize};

use crate::{AttentionError, CausalAlignment};

/// The largest head dimension and value dimension that the kernels take.
pub const MAX_HEAD_DIM: usize = 256;

/// The shapes of the tensors of one call, as given by the caller, before any check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AttentionShapes {
    /// `[batch, heads, seq_q, head_dim]`
    pub query: [usize; 4],
    /// `[batch, kv_heads, seq_kv, head_dim]`
    pub key: [usize; 4],
    /// `[batch, value_heads, seq_kv, value_dim]`
    pub value: [usize; 4],
    /// `[batch | 1, heads | 1, seq_q | 1, seq_kv | 1]`
    pub mask: Option<[usize; 4]>,
    /// `[batch | 1, heads | 1, seq_q | 1, seq_kv | 1]`
    pub bias: Option<[usize; 4]>,
}

/// The sizes of one attention call whose tensors fit each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct AttentionProblem {
    /// Independent sequences.
    pub batch: usize,
    /// Query heads.
    pub heads: usize,
    /// Key heads: a divisor of `heads`. Head `h` reads key head `h / (heads / kv_heads)`.
    pub kv_heads: usize,
    /// Value heads: a divisor of `kv_heads`, mostly `kv_heads`. Key head `h` reads value head
    /// `h / (kv_heads / value_heads)`.
    pub value_heads: usize,
    /// Queries per sequence.
    pub seq_q: usize,
    /// Keys per sequence.
    pub seq_kv: usize,
    /// Width of queries and keys.
    pub head_dim: usize,
    /// Width of values and of the output.
    pub value_dim: usize,
}

impl AttentionShapes {
    /// The problem that these shapes spell, or which argument does not fit and why.
    ///
    /// ```
    /// use attention_core::AttentionShapes;
    ///
    /// let shapes = AttentionShapes {
    ///     query: [2, 8, 100, 64],
    ///     key: [2, 2, 77, 64],
    ///     value: [2, 2, 77, 32],
    ///     mask: Some([2, 1, 1, 77]),
    ///     bias: None,
    /// };
    /// let problem = shapes.validate().unwrap();
    /// assert_eq!(problem.group_size(), 4);
    /// assert_eq!(problem.output_shape(), [2, 8, 100, 32]);
    /// ```
    pub fn validate(&self) -> Result<AttentionProblem, AttentionError> {
        let [batch, heads, seq_q, head_dim] = self.query;
        let [_, kv_heads, seq_kv, _] = self.key;
        let [_, value_heads, _, value_dim] = self.value;

        let refuse = |argument, given: &[usize], accepted: String| {
            Err(AttentionError::Shape {
                argument,
                given: given.to_vec(),
                accepted,
            })
        };
        if batch == 0 || heads == 0 {
            return refuse(
                "query",
                &self.query,
                "at least one batch element and one head".into(),
            );
        }
        if head_dim == 0 || head_dim > MAX_HEAD_DIM {
            return refuse(
                "query",
                &self.query,
                format!("a head dimension from 1 to {MAX_HEAD_DIM}"),
            );
        }
        if self.key[0] != batch || self.key[3] != head_dim {
            return refuse(
                "key",
                &self.key,
                format!(
                    "[{batch}, kv_heads, seq_kv, {head_dim}] for the query's shape {:?}",
                    self.query
                ),
            );
        }
        if kv_heads == 0 || !heads.is_multiple_of(kv_heads) {
            return refuse(
                "key",
                &self.key,
                format!("a number of heads that divides the query's {heads}"),
            );
        }
        if self.value[0] != batch || self.value[2] != seq_kv {
            return refuse(
                "value",
                &self.value,
                format!(
                    "[{batch}, value_heads, {seq_kv}, value_dim] for the key's shape {:?}",
                    self.key
                ),
            );
        }
        if value_heads == 0 || !kv_heads.is_multiple_of(value_heads) {
            return refuse(
                "value",
                &self.value,
                format!("a number of heads that divides the key's {kv_heads}"),
            );
        }
        if value_dim == 0 || value_dim > MAX_HEAD_DIM {
            return refuse(
                "value",
                &self.value,
                format!("a value dimension from 1 to {MAX_HEAD_DIM}"),
            );
        }
        let scores = [batch, heads, seq_q, seq_kv];
        for (argument, shape) in [("mask", self.mask), ("bias", self.bias)] {
            let Some(shape) = shape else { continue };
            if shape
                .iter()
                .zip(scores)
                .any(|(&d, full)| d != full && d != 1)
            {
                return refuse(
                    argument,
                    &shape,
                    format!(
                        "[{batch} or 1, {heads} or 1, {seq_q} or 1, {seq_kv} or 1] \
                         (batch, heads, seq_q, seq_kv)"
                    ),
                );
            }
        }
        Ok(AttentionProblem {
            batch,
            heads,
            kv_heads,
            value_heads,
            seq_q,
            seq_kv,
            head_dim,
            value_dim,
        })
    }
}

impl AttentionProblem {
    /// Query heads per key head.
    ///
    /// # Panics
    /// When `kv_heads` is 0, which [`AttentionShapes::validate`] refuses.
    pub fn group_size(&self) -> usize {
        self.heads / self.kv_heads
    }

    /// Key heads per value head.
    ///
    /// # Panics
    /// When `value_heads` is 0, which [`AttentionShapes::validate`] refuses.
    pub fn value_group_size(&self) -> usize {
        self.kv_heads / self.value_heads
    }

    /// `[batch, heads, seq_q, head_dim]`
    pub fn query_shape(&self) -> [usize; 4] {
        [self.batch, self.heads, self.seq_q, self.head_dim]
    }

    /// `[batch, kv_heads, seq_kv, head_dim]`
    pub fn key_shape(&self) -> [usize; 4] {
        [self.batch, self.kv_heads, self.seq_kv, self.head_dim]
    }

    /// `[batch, value_heads, seq_kv, value_dim]`
    pub fn value_shape(&self) -> [usize; 4] {
        [self.batch, self.value_heads, self.seq_kv, self.value_dim]
    }

    /// `[batch, heads, seq_q, seq_kv]`, the scores that masks and biases broadcast to.
    pub fn scores_shape(&self) -> [usize; 4] {
        [self.batch, self.heads, self.seq_q, self.seq_kv]
    }

    /// `[batch, heads, seq_q, value_dim]`
    pub fn output_shape(&self) -> [usize; 4] {
        [self.batch, self.heads, self.seq_q, self.value_dim]
    }

    /// `[batch, heads, seq_q]`
    pub fn lse_shape(&self) -> [usize; 3] {
        [self.batch, self.heads, self.seq_q]
    }

    /// What is added to a query's position to get the last key that it may see, or `None` when
    /// every key is visible.
    ///
    /// Query `i` sees key `j` when `j <= i + offset`.
    pub fn causal_offset(&self, causal: Option<CausalAlignment>) -> Option<isize> {
        causal.map(|alignment| match alignment {
            CausalAlignment::TopLeft => 0,
            CausalAlignment::BottomRight => self.seq_kv as isize - self.seq_q as isize,
        })
    }

    /// Pairs of query and key that are computed for one head: all of them, or those on and under
    /// the causal diagonal. Stays at `u64::MAX` if there are more.
    ///
    /// ```
    /// use attention_core::{AttentionShapes, CausalAlignment};
    ///
    /// let problem = AttentionShapes {
    ///     query: [1, 1, 2, 64],
    ///     key: [1, 1, 5, 64],
    ///     value: [1, 1, 5, 64],
    ///     mask: None,
    ///     bias: None,
    /// }
    /// .validate()?;
    /// assert_eq!(problem.visible_pairs(None), 10);
    /// assert_eq!(problem.visible_pairs(Some(CausalAlignment::TopLeft)), 1 + 2);
    /// assert_eq!(problem.visible_pairs(Some(CausalAlignment::BottomRight)), 4 + 5);
    /// # Ok::<(), attention_core::AttentionError>(())
    /// ```
    pub fn visible_pairs(&self, causal: Option<CausalAlignment>) -> u64 {
        let (queries, keys) = (self.seq_q as u128, self.seq_kv as u128);
        let diagonal = queries.min(keys);
        let pairs = match causal {
            None => queries * keys,
            // The first queries see 1, 2, .. keys; those past the diagonal's end see all.
            Some(CausalAlignment::TopLeft) => {
                diagonal * (diagonal + 1) / 2 + (queries - diagonal) * keys
            }
            // The last queries see .. keys - 1, keys; those before the diagonal's start see none.
            Some(CausalAlignment::BottomRight) => {
                diagonal * keys - diagonal * diagonal.saturating_sub(1) / 2
            }
        };
        u64::try_from(pairs).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use CausalAlignment::{BottomRight, TopLeft};

    fn problem(seq_q: usize, seq_kv: usize) -> AttentionProblem {
        AttentionProblem {
            batch: 1,
            heads: 1,
            kv_heads: 1,
            value_heads: 1,
            seq_q,
            seq_kv,
            head_dim: 1,
            value_dim: 1,
        }
    }

    #[test]
    fn visible_pairs_are_those_that_the_causal_offset_lets_through() {
        for (seq_q, seq_kv) in (0..9).flat_map(|q| (0..9).map(move |k| (q, k))) {
            let problem = problem(seq_q, seq_kv);
            for causal in [None, Some(TopLeft), Some(BottomRight)] {
                let offset = problem.causal_offset(causal);
                let counted = (0..seq_q as isize)
                    .flat_map(|i| (0..seq_kv as isize).map(move |j| (i, j)))
                    .filter(|(i, j)| offset.is_none_or(|offset| *j <= i + offset))
                    .count();
                assert_eq!(
                    problem.visible_pairs(causal),
                    counted as u64,
                    "{seq_q} queries, {seq_kv} keys, {causal:?}"
                );
            }
        }
    }

    #[test]
    fn the_last_query_sees_every_key_when_aligned_bottom_right() {
        for (seq_q, seq_kv) in [(3, 5), (5, 5), (5, 3)] {
            let offset = problem(seq_q, seq_kv).causal_offset(Some(BottomRight));
            assert_eq!(seq_q as isize - 1 + offset.unwrap(), seq_kv as isize - 1);
        }
    }
}
