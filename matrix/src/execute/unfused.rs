//! Attention step by step on the host, every step rounded to the problem's element type, as an unfused
//! run has it: products and sums accumulate in f32. It stands in for Burn's own operations, which
//! `attention verify` measures against and this crate must not depend on.

use attention_core::{DType, oracle::Tensor4};

use super::problem::{Outputs, Problem, round};

/// What such a run gives.
pub(super) fn unfused(problem: &Problem) -> Outputs {
    let inputs = &problem.inputs;
    let [batch, heads, seq_q, head_dim] = inputs.query.shape;
    let [_, kv_heads, seq_kv, _] = inputs.key.shape;
    let [_, value_heads, _, value_dim] = inputs.value.shape;
    let mut sums = Sums {
        out: Vec::new(),
        lse: Vec::new(),
        query: Vec::new(),
        key: vec![0.0; batch * kv_heads * seq_kv * head_dim],
        value: vec![0.0; batch * value_heads * seq_kv * value_dim],
    };
    for b in 0..batch {
        for h in 0..heads {
            let kv_head = h / (heads / kv_heads);
            let value_head = kv_head / (kv_heads / value_heads);
            let head = Head {
                problem,
                at: [b, h],
                key: [b * kv_heads + kv_head, b * value_heads + value_head],
            };
            for i in 0..seq_q {
                head.row(i, &mut sums);
            }
        }
    }
    let dtype = problem.dtype;
    let values = |sums: Vec<f32>| {
        sums.into_iter()
            .map(|sum| round(sum.into(), dtype))
            .collect()
    };
    [
        values(sums.out),
        values(sums.lse),
        values(sums.query),
        values(sums.key),
        values(sums.value),
    ]
}

/// In f32, before their last rounding.
struct Sums {
    out: Vec<f32>,
    lse: Vec<f32>,
    query: Vec<f32>,
    key: Vec<f32>,
    value: Vec<f32>,
}

struct Head<'a> {
    problem: &'a Problem,
    at: [usize; 2],
    /// Its heads of keys and values among those of all batch elements.
    key: [usize; 2],
}

/// A score on its way.
struct Score {
    /// After scale, softcap, modification and bias; -inf where it is hidden.
    value: f64,
    /// How it follows from the product.
    slope: f64,
    factor: f64,
}

impl Head<'_> {
    fn r(&self, value: f64) -> f64 {
        round(value, self.problem.dtype)
    }

    fn row(&self, i: usize, sums: &mut Sums) {
        let Problem {
            inputs, grad_out, ..
        } = self.problem;
        let [b, h] = self.at;
        let [_, heads, seq_q, _] = inputs.query.shape;
        let row = (b * heads + h) * seq_q + i;
        let query = part(&inputs.query.data, inputs.query.shape[3], row);
        let grad = part(&grad_out.data, grad_out.shape[3], row);
        let seq_kv = inputs.key.shape[2];
        let scores: Vec<Score> = (0..seq_kv).map(|j| self.score(i, j, query)).collect();
        let highest = scores.iter().map(|score| score.value);
        let highest = highest.fold(f64::NEG_INFINITY, f64::max);
        let empty = highest == f64::NEG_INFINITY;
        let reference = if empty { 0.0 } else { highest };
        let weights: Vec<f64> = scores
            .iter()
            .map(|score| self.r(self.r(score.value - reference).exp()))
            .collect();
        let total = self.r(sum(weights.iter().copied()));
        let divisor = if empty { 1.0 } else { total };
        let lse = if empty {
            f64::NEG_INFINITY
        } else {
            self.r(self.r(total.ln()) + reference)
        };
        let chances: Vec<f64> = weights.iter().map(|w| self.r(w / divisor)).collect();
        let slopes: Vec<f64> = (0..seq_kv)
            .map(|j| {
                let value = self.value(j);
                self.r(self.r(dot(grad, value)) * scores[j].factor)
            })
            .collect();
        let products = chances.iter().zip(&slopes).map(|(p, dp)| self.r(p * dp));
        let delta = self.r(sum(products));
        let grad_lse = self.problem.grad_lse.as_ref().map_or(0.0, |lse| lse[row]);

        let mut out = vec![0.0f32; grad.len()];
        let mut grad_query = vec![0.0f32; query.len()];
        let [kv_head, value_head] = self.key;
        for (j, score) in scores.iter().enumerate() {
            let kept = self.r(chances[j] * score.factor);
            add(&mut out, kept, self.value(j));
            add(
                part_mut(&mut sums.value, grad.len(), value_head * seq_kv + j),
                kept,
                grad,
            );
            let slope = self.r(chances[j] * self.r(slopes[j] - delta + grad_lse));
            let slope = self.r(slope * score.slope);
            add(&mut grad_query, slope, self.key(j));
            add(
                part_mut(&mut sums.key, query.len(), kv_head * seq_kv + j),
                slope,
                query,
            );
        }
        sums.out.extend(out);
        sums.lse.push(lse as f32);
        sums.query.extend(grad_query);
    }

    fn key(&self, j: usize) -> &[f64] {
        let key = &self.problem.inputs.key;
        part(&key.data, key.shape[3], self.key[0] * key.shape[2] + j)
    }

    fn value(&self, j: usize) -> &[f64] {
        let value = &self.problem.inputs.value;
        part(
            &value.data,
            value.shape[3],
            self.key[1] * value.shape[2] + j,
        )
    }

    fn score(&self, i: usize, j: usize, query: &[f64]) -> Score {
        let Problem {
            inputs, spec, code, ..
        } = self.problem;
        let at = [self.at[0], self.at[1], i, j];
        let scale = spec.scale_for(query.len());
        let mut value = self.r(self.r(dot(query, self.key(j))) * scale);
        let mut slope = scale;
        if let Some(cap) = spec.softcap {
            let bent = self.r(self.r(value / cap).tanh());
            value = self.r(bent * cap);
            slope = self.r(slope * self.r(1.0 - self.r(bent * bent)));
        }
        if let Some(score) = code.score {
            let (modified, factor) = score(self.problem, value, at);
            value = self.r(modified);
            slope = self.r(slope * factor);
        }
        if let Some(bias) = &inputs.bias {
            value = self.r(value + bias.get(at));
        }
        let shift = causal_shift(self.problem);
        let hidden = inputs.mask.as_ref().is_some_and(|mask| mask.get(at))
            || shift.is_some_and(|shift| j as isize > i as isize + shift)
            || code
                .visible
                .is_some_and(|visible| !visible(self.problem, at));
        Score {
            value: if hidden { f64::NEG_INFINITY } else { value },
            slope,
            factor: code.weight.map_or(1.0, |weight| weight(self.problem, at)),
        }
    }
}

fn causal_shift(problem: &Problem) -> Option<isize> {
    use attention_core::CausalAlignment::{BottomRight, TopLeft};
    let (rows, keys) = (problem.inputs.query.shape[2], problem.inputs.key.shape[2]);
    problem.spec.causal.map(|alignment| match alignment {
        TopLeft => 0,
        BottomRight => keys as isize - rows as isize,
    })
}

fn part(values: &[f64], dim: usize, row: usize) -> &[f64] {
    &values[row * dim..(row + 1) * dim]
}

fn part_mut(values: &mut [f32], dim: usize, row: usize) -> &mut [f32] {
    &mut values[row * dim..(row + 1) * dim]
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    let products = a.iter().zip(b).map(|(a, b)| *a as f32 * *b as f32);
    products.sum::<f32>().into()
}

fn sum(values: impl Iterator<Item = f64>) -> f64 {
    values.map(|value| value as f32).sum::<f32>().into()
}

fn add(into: &mut [f32], factor: f64, term: &[f64]) {
    for (into, term) in into.iter_mut().zip(term) {
        *into += factor as f32 * *term as f32;
    }
}

/// How far from the truth the `pass`-th result may be, as `attention verify` has it: twice the error
/// of the unfused run, and two roundings of the largest expected value. Where both are 0, as a
/// gradient is with a single key, it may be off by the f32 roundings of the terms that cancel in it,
/// `dO V^T` and `delta`.
pub(super) fn bound(problem: &Problem, pass: usize, peer: &[f64], expected: &[f64]) -> f64 {
    let error = distance(peer, expected);
    // An unfused run that overflows says nothing of how exact one is.
    let error = if error.is_finite() { error } else { 0.0 };
    let dtype = if pass == 1 {
        DType::F32
    } else {
        problem.dtype
    };
    let bound = 2.0 * error + 2.0 * dtype.unit_roundoff() * largest(expected);
    if bound > 0.0 {
        return bound;
    }
    let inputs = &problem.inputs;
    let slopes = longest_row(&problem.grad_out) * longest_row(&inputs.value);
    let scale = problem.spec.scale_for(inputs.query.shape[3]).abs();
    let cancelling = match pass {
        2 => scale * slopes * largest(&inputs.key.data),
        3 => scale * slopes * largest(&inputs.query.data),
        _ => 0.0,
    };
    4.0 * DType::F32.unit_roundoff() * cancelling
}

/// The largest finite magnitude.
fn largest(values: &[f64]) -> f64 {
    let finite = values.iter().filter(|value| value.is_finite());
    finite.fold(0.0, |largest, value| largest.max(value.abs()))
}

/// The largest Euclidean length of a row.
fn longest_row(tensor: &Tensor4) -> f64 {
    let rows = tensor.data.chunks(tensor.shape[3].max(1));
    let lengths = rows.map(|row| row.iter().map(|value| value * value).sum::<f64>().sqrt());
    lengths.fold(0.0, f64::max)
}

/// The largest difference; infinite unless every infinity is met exactly, for any NaN, and for a
/// length that differs.
pub(super) fn distance(values: &[f64], expected: &[f64]) -> f64 {
    if values.len() != expected.len() {
        return f64::INFINITY;
    }
    let differences = values.iter().zip(expected).map(|(value, expected)| {
        let difference = (value - expected).abs();
        match difference {
            _ if value == expected => 0.0,
            difference if difference.is_nan() => f64::INFINITY,
            difference => difference,
        }
    });
    differences.fold(0.0, f64::max)
}
