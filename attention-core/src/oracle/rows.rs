//! One row of the probability matrix: what one query gives to each key that it may see.

use super::array::dot;
use super::{Inputs, Modification};
use crate::{AttentionError, AttentionProblem, AttentionSpec};

/// The rows of the probability matrix of one call, computed when asked for.
pub(super) struct Rows<'a> {
    pub(super) inputs: &'a Inputs,
    pub(super) problem: AttentionProblem,
    pub(super) scale: f64,
    spec: AttentionSpec,
    modification: Modification<'a>,
}

/// The softmax of one query over the keys that it may see.
pub(super) struct Row {
    /// In the order of the keys; empty when the query sees none.
    pub(super) keys: Vec<SeenKey>,
    /// `ln sum_j exp(s[j])`, `-inf` when there is no key.
    pub(super) lse: f64,
}

/// A key that the query may see.
pub(super) struct SeenKey {
    /// Position in the sequence.
    pub(super) position: usize,
    /// `p[i,j]`
    pub(super) probability: f64,
    /// `f[i,j]`
    pub(super) factor: f64,
    /// `ds/dx`, the derivative of softcap and modification: 1 without them.
    pub(super) slope: f64,
}

impl<'a> Rows<'a> {
    /// Checks the inputs against each other and the options against their domains.
    pub(super) fn new(
        inputs: &'a Inputs,
        spec: &AttentionSpec,
        modification: Modification<'a>,
    ) -> Result<Self, AttentionError> {
        let problem = inputs.validate(spec)?;
        Ok(Self {
            inputs,
            problem,
            scale: spec.scale_for(problem.head_dim),
            spec: *spec,
            modification,
        })
    }

    /// The key head that a query head reads.
    pub(super) fn kv_head(&self, head: usize) -> usize {
        head / self.problem.group_size()
    }

    /// The value head that a query head reads.
    pub(super) fn value_head(&self, head: usize) -> usize {
        self.kv_head(head) / self.problem.value_group_size()
    }

    /// The row of query `i`.
    pub(super) fn row(&self, batch: usize, head: usize, i: usize) -> Row {
        let (positions, (scores, slopes)): (Vec<_>, (Vec<_>, Vec<_>)) = (0..self.problem.seq_kv)
            .filter(|&j| self.sees([batch, head, i, j]))
            .map(|j| (j, self.score([batch, head, i, j])))
            .unzip();
        // Not exp(score - lse): next to a huge score, the lse has no digits left for the total.
        let max = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let weights: Vec<f64> = scores
            .iter()
            .map(|score: &f64| (score - max).exp())
            .collect();
        let total: f64 = weights.iter().sum();
        let keys = positions
            .into_iter()
            .zip(weights)
            .zip(slopes)
            .map(|((position, weight), slope)| SeenKey {
                position,
                probability: weight / total,
                factor: self
                    .modification
                    .weight
                    .map_or(1.0, |factor| factor([batch, head, i, position])),
                slope,
            })
            .collect();
        Row {
            keys,
            lse: max + total.ln(),
        }
    }

    /// Whether nothing hides this key from this query.
    fn sees(&self, index: [usize; 4]) -> bool {
        let [_, _, i, j] = index;
        let hidden_by_causal = self
            .problem
            .causal_offset(self.spec.causal)
            .is_some_and(|offset| j as isize > i as isize + offset);
        let hidden_by_mask = self.inputs.mask.as_ref().is_some_and(|m| m.get(index));
        let hidden_by_bias = self.bias(index) == f64::NEG_INFINITY;
        let hidden_by_function = self
            .modification
            .visible
            .is_some_and(|visible| !visible(index));
        !(hidden_by_causal || hidden_by_mask || hidden_by_bias || hidden_by_function)
    }

    /// `s[i,j]` and `ds/dx`.
    fn score(&self, index: [usize; 4]) -> (f64, f64) {
        let [batch, head, i, j] = index;
        let query = self.inputs.query.row(batch, head, i);
        let key = self.inputs.key.row(batch, self.kv_head(head), j);
        let x = self.scale * dot(query, key);
        let (capped, slope) = match self.spec.softcap {
            None => (x, 1.0),
            Some(softcap) => {
                let t = (x / softcap).tanh();
                (softcap * t, 1.0 - t * t)
            }
        };
        let (modified, derivative) = match self.modification.score {
            None => (capped, 1.0),
            Some(score) => score(capped, index),
        };
        (modified + self.bias(index), slope * derivative)
    }

    fn bias(&self, index: [usize; 4]) -> f64 {
        self.inputs
            .bias
            .as_ref()
            .map_or(0.0, |bias| bias.get(index))
    }
}
