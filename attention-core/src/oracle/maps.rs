//! What attention looked at, from the whole matrix of probabilities.
//!
//! ```text
//! received[j]      = sum over i of p[i,j]
//! pooled[a,b]      = mean over heads and over the queries i of cell a of
//!                    sum over the keys j of cell b of p[i,j]
//! entropy[i]       = -sum over j of p[i,j] ln p[i,j],  with 0 ln 0 = 0
//! top keys[i]      = the k keys of largest p[i,.]: a stable sort, largest first
//! gradient x p     = p[i,j] * dp[i,j],  with dp[i,j] = sum_d do[i,d] v[h',j,d]
//! ```

use std::ops::Range;

use super::array::dot;
use super::{Inputs, Tensor4};

/// The rows of some queries: `[batch, heads, positions, seq_kv]`.
///
/// # Panics
/// When a position lies beyond the last query.
///
/// ```
/// use attention_core::oracle::{Tensor4, chosen_rows};
///
/// let p = Tensor4::new([1, 1, 2, 2], vec![1.0, 0.0, 0.25, 0.75]);
/// assert_eq!(chosen_rows(&p, &[1]).data, [0.25, 0.75]);
/// ```
pub fn chosen_rows(probabilities: &Tensor4, positions: &[usize]) -> Tensor4 {
    let [batch, heads, _, seq_kv] = probabilities.shape;
    let data = pairs(probabilities).flat_map(|[b, h]| {
        positions
            .iter()
            .flat_map(move |&position| probabilities.row(b, h, position).to_vec())
    });
    Tensor4::new([batch, heads, positions.len(), seq_kv], data.collect())
}

/// What each key receives from all queries: `[batch, heads, seq_kv]`.
///
/// ```
/// use attention_core::oracle::{Tensor4, received};
///
/// let p = Tensor4::new([1, 1, 2, 2], vec![1.0, 0.0, 0.25, 0.75]);
/// assert_eq!(received(&p), [1.25, 0.75]);
/// ```
pub fn received(probabilities: &Tensor4) -> Vec<f64> {
    let [_, _, seq_q, seq_kv] = probabilities.shape;
    let sum = |b, h, j| (0..seq_q).map(|i| probabilities.get([b, h, i, j])).sum();
    pairs(probabilities)
        .flat_map(|[b, h]| (0..seq_kv).map(move |j| sum(b, h, j)))
        .collect()
}

/// Averaged over the heads and pooled to a grid: `[batch, grid[0], grid[1]]`.
///
/// A cell is the mean over its queries of the sum over its keys. `n` positions fall into `g` cells in
/// their order, the first `n % g` of which have one more than the others.
///
/// ```
/// use attention_core::oracle::{Tensor4, pooled};
///
/// let p = Tensor4::new([1, 1, 2, 3], vec![1.0, 0.0, 0.0, 0.25, 0.25, 0.5]);
/// assert_eq!(pooled(&p, [1, 2]), [0.75, 0.25]);
/// ```
pub fn pooled(probabilities: &Tensor4, grid: [usize; 2]) -> Vec<f64> {
    let [batch, heads, seq_q, seq_kv] = probabilities.shape;
    let mut cells = Vec::new();
    for b in 0..batch {
        for queries in (0..grid[0]).map(|cell| positions_of(cell, grid[0], seq_q)) {
            for keys in (0..grid[1]).map(|cell| positions_of(cell, grid[1], seq_kv)) {
                let mut sum = 0.0;
                for h in 0..heads {
                    for i in queries.clone() {
                        sum += probabilities.row(b, h, i)[keys.clone()].iter().sum::<f64>();
                    }
                }
                cells.push(sum / (heads * queries.len()) as f64);
            }
        }
    }
    cells
}

/// The positions of one cell.
fn positions_of(cell: usize, cells: usize, length: usize) -> Range<usize> {
    let start = |cell: usize| cell * (length / cells) + cell.min(length % cells);
    start(cell)..start(cell + 1)
}

/// The entropy of each row in nats: `[batch, heads, seq_q]`.
///
/// ```
/// use attention_core::oracle::{Tensor4, entropy};
///
/// let p = Tensor4::new([1, 1, 3, 2], vec![0.5, 0.5, 1.0, 0.0, 0.0, 0.0]);
/// assert_eq!(entropy(&p), [2f64.ln(), 0.0, 0.0]);
/// ```
pub fn entropy(probabilities: &Tensor4) -> Vec<f64> {
    let term = |p: &f64| if *p == 0.0 { 0.0 } else { -p * p.ln() };
    rows(probabilities)
        .map(|row| row.iter().map(term).sum())
        .collect()
}

/// The `k` keys of largest probability of each row, the largest first and among equals the key of
/// lower position, as probabilities and as positions: `[batch, heads, seq_q, k]`.
///
/// ```
/// use attention_core::oracle::{Tensor4, top_keys};
///
/// let p = Tensor4::new([1, 1, 1, 4], vec![0.25, 0.5, 0.0, 0.25]);
/// assert_eq!(top_keys(&p, 3), (vec![0.5, 0.25, 0.25], vec![1, 0, 3]));
/// ```
pub fn top_keys(probabilities: &Tensor4, k: usize) -> (Vec<f64>, Vec<usize>) {
    let best = |row: &[f64]| {
        let mut keys: Vec<_> = row.iter().copied().zip(0..).collect();
        keys.sort_by(|(a, _), (b, _)| b.total_cmp(a));
        keys.truncate(k);
        keys
    };
    rows(probabilities).flat_map(|row| best(&row)).unzip()
}

/// Gradient times attention of some queries, `[batch, heads, positions, seq_kv]`, for the output's
/// gradient `[batch, heads, seq_q, value_dim]`.
///
/// # Panics
/// When a position lies beyond the last query.
pub fn gradient_times_attention(
    probabilities: &Tensor4,
    inputs: &Inputs,
    grad_out: &Tensor4,
    positions: &[usize],
) -> Tensor4 {
    let mut shown = chosen_rows(probabilities, positions);
    let [batch, heads, _, _] = shown.shape;
    let group = heads / inputs.value.shape[1];
    for b in 0..batch {
        for h in 0..heads {
            for (r, &i) in positions.iter().enumerate() {
                for (j, p) in shown.row_mut(b, h, r).iter_mut().enumerate() {
                    *p *= dot(grad_out.row(b, h, i), inputs.value.row(b, h / group, j));
                }
            }
        }
    }
    shown
}

fn pairs(probabilities: &Tensor4) -> impl Iterator<Item = [usize; 2]> + use<> {
    let [batch, heads, ..] = probabilities.shape;
    (0..batch).flat_map(move |b| (0..heads).map(move |h| [b, h]))
}

fn rows(probabilities: &Tensor4) -> impl Iterator<Item = Vec<f64>> + '_ {
    let seq_q = probabilities.shape[2];
    pairs(probabilities)
        .flat_map(move |[b, h]| (0..seq_q).map(move |i| probabilities.row(b, h, i).to_vec()))
}
