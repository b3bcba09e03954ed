//! Which map, as an operation carries it.

/// Which map.
#[derive(Debug, Clone, PartialEq)]
pub enum Map {
    /// The probabilities of these queries: `[batch, heads, rows, seq_kv]`.
    Rows(Vec<usize>),
    /// Gradient times attention of these queries: `[batch, heads, rows, seq_kv]`.
    GradientTimes(Vec<usize>),
    /// The sums over the queries: `[batch, heads, seq_kv]`.
    Received,
    /// The mean over the heads on a grid of queries and keys: `[batch, grid[0], grid[1]]`.
    Pooled([usize; 2]),
    /// The entropy of each query: `[batch, heads, seq_q]`.
    Entropy,
    /// The so many keys of largest probability of each query: `[batch, heads, seq_q, k]`.
    TopKeys(usize),
}

impl Map {
    /// The shape of the values, with leading dimensions of 1 where there are fewer than four.
    pub fn shape(&self, query: [usize; 4], key: [usize; 4]) -> [usize; 4] {
        let [batch, heads, seq_q, _] = query;
        let seq_kv = key[2];
        match self {
            Self::Rows(rows) | Self::GradientTimes(rows) => [batch, heads, rows.len(), seq_kv],
            Self::Received => [1, batch, heads, seq_kv],
            Self::Pooled([queries, keys]) => [1, batch, *queries, *keys],
            Self::Entropy => [1, batch, heads, seq_q],
            Self::TopKeys(k) => [batch, heads, seq_q, *k],
        }
    }
}
