//! Attention of single queries, as each step of generation has it: one pass over the keys and one over
//! the values of each head, at the speed of memory.

use super::{
    cores::{LEAST, in_parts, share, widest},
    functions::{exp, product},
};

/// Rows of numbers, evenly spaced in memory.
#[derive(Debug, Clone, Copy)]
pub struct Rows<'a> {
    /// From the first row on.
    pub numbers: &'a [f32],
    /// From the start of a row to that of the next.
    pub step: usize,
    /// Numbers of a row.
    pub width: usize,
}

impl<'a> Rows<'a> {
    #[inline(always)]
    fn get(&self, index: usize) -> &'a [f32] {
        &self.numbers[index * self.step..][..self.width]
    }
}

/// What one head attends with.
#[derive(Debug, Clone, Copy)]
pub struct Head<'a> {
    /// As wide as the keys.
    pub query: &'a [f32],
    /// As many as there are values.
    pub keys: Rows<'a>,
    /// As wide in all heads.
    pub values: Rows<'a>,
}

/// `softmax(scale * query keys^T) values` of so many heads for one query and `keys` keys: the outputs of
/// all, one after the other, and the log-sum-exp of each head's products. Without keys they are 0 and
/// `-inf`.
///
/// # Panics
/// If rows are missing or their widths differ.
pub fn attend<'a>(
    heads: usize,
    keys: usize,
    value_dim: usize,
    scale: f32,
    head: impl Fn(usize) -> Head<'a> + Sync,
) -> (Vec<f32>, Vec<f32>) {
    let width = value_dim + 1;
    let mut rows = vec![0.0; heads * width];
    let least = LEAST.div_ceil((keys * 2 * value_dim).max(1));
    in_parts(&mut rows, share(heads).max(least) * width, |first, rows| {
        for (index, row) in rows.chunks_exact_mut(width).enumerate() {
            let head = head(first / width + index);
            let (out, lse) = row.split_at_mut(value_dim);
            assert_eq!(
                head.query.len(),
                head.keys.width,
                "widths of queries and keys"
            );
            lse[0] = widest(|| attend_here(head, keys, scale, out));
        }
    });
    let rows = || rows.chunks_exact(width);
    let out = rows().flat_map(|row| &row[..value_dim]).copied().collect();
    (out, rows().map(|row| row[value_dim]).collect())
}

#[inline(always)]
fn attend_here(head: Head, keys: usize, scale: f32, out: &mut [f32]) -> f32 {
    let mut weights: Vec<f32> = (0..keys)
        .map(|index| scale * product(head.query, head.keys.get(index)))
        .collect();
    let largest = weights.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    if largest == f32::NEG_INFINITY {
        return largest;
    }
    let mut sum = 0.0;
    for weight in &mut weights {
        *weight = exp(*weight - largest);
        sum += *weight;
    }
    for (index, weight) in weights.iter().enumerate() {
        for (out, value) in out.iter_mut().zip(head.values.get(index)) {
            *out += weight * value;
        }
    }
    for out in out {
        *out /= sum;
    }
    largest + sum.ln()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_attends_by_the_softmax_of_its_products() {
        // Three numbers of each row are used, of five.
        let keys = [
            1.0, 0.0, 2.0, 9.0, 9.0, 0.5, -1.0, 1.0, 9.0, 9.0, 0.0, 3.0, 0.0,
        ];
        let values = [10.0, 20.0, 30.0, 40.0, 50.0, 60.0];
        let query = [0.3, -0.7, 1.1];
        let products = [2.5f64, 1.95, -2.1].map(|product| 0.5 * product);
        let weights = products.map(f64::exp);
        let sum: f64 = weights.iter().sum();
        let rows = |numbers, step, width| Rows {
            numbers,
            step,
            width,
        };
        let head = Head {
            query: &query,
            keys: rows(&keys, 5, 3),
            values: rows(&values, 2, 2),
        };
        let (out, lse) = attend(1, 3, 2, 0.5, |_| head);
        assert!((f64::from(lse[0]) - sum.ln()).abs() < 1e-6);
        for (column, out) in out.iter().enumerate() {
            let parts = weights.iter().zip(values.chunks(2));
            let expected = parts.map(|(weight, row)| weight * f64::from(row[column]));
            assert!((f64::from(*out) - expected.sum::<f64>() / sum).abs() < 1e-5);
        }
    }

    #[test]
    fn heads_without_keys_get_nothing() {
        let none = Rows {
            numbers: &[],
            step: 2,
            width: 2,
        };
        let head = Head {
            query: &[1.0, 1.0],
            keys: none,
            values: none,
        };
        let (out, lse) = attend(3, 0, 2, 1.0, |_| head);
        assert_eq!((out, lse), (vec![0.0; 6], vec![f32::NEG_INFINITY; 3]));
    }
}
