//! Attention of single queries, as each step of generation has it: one pass over the keys and one over
//! the values of each head, at the speed of memory.

use half::{bf16, f16};
use pulp::{Arch, Simd, WithSimd};

use super::{
    cores::{LEAST, in_parts, share},
    functions::{exp, sum},
    numbers::Number,
    vectors::{add_rows, largest, product},
};

/// The numbers of queries, keys and values.
#[derive(Debug, Clone, Copy)]
pub enum Numbers<'a> {
    /// Of 32 bits.
    F32([&'a [f32]; 3]),
    /// Of IEEE 754's 16.
    F16([&'a [f16]; 3]),
    /// The upper 16 of 32.
    BF16([&'a [bf16]; 3]),
}

/// Rows, evenly spaced among the numbers of a tensor.
#[derive(Debug, Clone, Copy)]
pub struct Rows {
    /// Where the first row begins.
    pub start: usize,
    /// From the start of a row to that of the next.
    pub step: usize,
    /// Numbers of a row.
    pub width: usize,
}

/// What heads attend with that share their keys.
#[derive(Debug, Clone, Copy)]
pub struct Heads {
    /// A row for each head, as wide as the keys.
    pub queries: Rows,
    /// As many as there are values.
    pub keys: Rows,
    /// As wide in all heads.
    pub values: Rows,
}

/// How much is attended to.
#[derive(Debug, Clone, Copy)]
pub struct Size {
    /// Heads of queries, all sequences together.
    pub heads: usize,
    /// How many that follow each other share their keys and values.
    pub sharing: usize,
    /// Keys of each.
    pub keys: usize,
    /// Numbers of a value.
    pub value_dim: usize,
}

/// `softmax(scale * query keys^T) values` for one query of each head: the outputs of all, one after the other, and
/// the log-sum-exp of each head's products. Without keys they are 0 and `-inf`. `heads` says what those from a head
/// on attend with.
///
/// # Panics
/// If rows are missing or their widths differ.
// Not generic: a crate that is built without optimisation would compile the loops for itself.
pub fn attend(
    size: Size,
    scale: f32,
    numbers: Numbers,
    heads: &(dyn Fn(usize) -> Heads + Sync),
) -> (Vec<f32>, Vec<f32>) {
    match numbers {
        Numbers::F32(tensors) => attend_with(size, scale, tensors, heads),
        Numbers::F16(tensors) => attend_with(size, scale, tensors, heads),
        Numbers::BF16(tensors) => attend_with(size, scale, tensors, heads),
    }
}

fn attend_with<N: Number>(
    size: Size,
    scale: f32,
    tensors: [&[N]; 3],
    heads: &(dyn Fn(usize) -> Heads + Sync),
) -> (Vec<f32>, Vec<f32>) {
    let value_dim = size.value_dim;
    let width = value_dim + 1;
    let mut rows = vec![0.0; size.heads * width];
    let least = LEAST.div_ceil((size.keys * 2 * value_dim).max(1));
    let part = share(size.heads).max(least);
    in_parts(&mut rows, part * width, |first, mut rows| {
        let mut head = first / width;
        while !rows.is_empty() {
            let alike = size.sharing - head % size.sharing;
            let these = rows.len().min(alike * width);
            let (own, rest) = rows.split_at_mut(these);
            Arch::new().dispatch(Attend {
                tensors,
                heads: heads(head),
                size,
                scale,
                rows: own,
            });
            (rows, head) = (rest, head + alike);
        }
    });
    let rows = || rows.chunks_exact(width);
    let out = rows().flat_map(|row| &row[..value_dim]).copied().collect();
    (out, rows().map(|row| row[value_dim]).collect())
}

/// Heads that share their keys: leaves the output of each and its log-sum-exp in its row.
struct Attend<'a, N> {
    tensors: [&'a [N]; 3],
    heads: Heads,
    size: Size,
    scale: f32,
    rows: &'a mut [f32],
}

impl<N: Number> WithSimd for Attend<'_, N> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        if self.rows.len() == self.size.value_dim + 1 {
            self.attend::<S, true>(simd);
        } else {
            self.attend::<S, false>(simd);
        }
    }
}

impl<N: Number> Attend<'_, N> {
    /// `ALONE`: it is one head, which spares the loops over several what they cost.
    #[inline(always)]
    fn attend<S: Simd, const ALONE: bool>(self, simd: S) {
        let Heads {
            queries,
            keys,
            values,
        } = self.heads;
        assert_eq!(queries.width, keys.width, "widths of queries and keys");
        let Size {
            keys: count,
            value_dim,
            ..
        } = self.size;
        let width = value_dim + 1;
        if count == 0 {
            for row in self.rows.chunks_exact_mut(width) {
                row[value_dim] = f32::NEG_INFINITY;
            }
            return;
        }
        let heads = if ALONE { 1 } else { self.rows.len() / width };
        let mut own = vec![0.0; heads * queries.width];
        for (head, own) in own.chunks_exact_mut(queries.width).enumerate() {
            for (own, query) in own.iter_mut().zip(row(self.tensors[0], queries, head)) {
                *own = query.number();
            }
        }

        let mut buffer = vec![0.0; keys.width.max(values.width)];
        let mut weights = vec![0.0; heads * count];
        for index in 0..count {
            let key = N::widen(row(self.tensors[1], keys, index), &mut buffer);
            for head in 0..heads {
                let query = &own[head * queries.width..][..queries.width];
                weights[head * count + index] = self.scale * product(simd, query, key);
            }
        }
        let of_heads = weights.chunks_exact_mut(count);
        for (row, weights) in self.rows.chunks_exact_mut(width).zip(of_heads) {
            row[value_dim] = soften(simd, weights);
        }
        for index in 0..count {
            let value = N::widen(row(self.tensors[2], values, index), &mut buffer);
            for head in 0..heads {
                let out = &mut self.rows[head * width..][..value_dim];
                add_rows(simd, [weights[head * count + index]], [value], out);
            }
        }
    }
}

/// Makes a softmax of scores; their log-sum-exp.
#[inline(always)]
fn soften<S: Simd>(simd: S, scores: &mut [f32]) -> f32 {
    let largest = largest(simd, scores);
    if largest == f32::NEG_INFINITY {
        scores.fill(0.0);
        return largest;
    }
    for score in &mut *scores {
        *score = exp(*score - largest);
    }
    let sum = sum(scores, |weight| weight);
    for score in scores {
        *score /= sum;
    }
    largest + sum.ln()
}

#[inline(always)]
fn row<N>(numbers: &[N], rows: Rows, index: usize) -> &[N] {
    &numbers[rows.start + index * rows.step..][..rows.width]
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
        let rows = |step, width| Rows {
            start: 0,
            step,
            width,
        };
        let head = Heads {
            queries: rows(3, 3),
            keys: rows(5, 3),
            values: rows(2, 2),
        };
        let numbers = Numbers::F32([&query, &keys, &values]);
        let size = Size {
            heads: 1,
            sharing: 1,
            keys: 3,
            value_dim: 2,
        };
        let (out, lse) = attend(size, 0.5, numbers, &|_| head);
        assert!((f64::from(lse[0]) - sum.ln()).abs() < 1e-6);
        for (column, out) in out.iter().enumerate() {
            let parts = weights.iter().zip(values.chunks(2));
            let expected = parts.map(|(weight, row)| weight * f64::from(row[column]));
            assert!((f64::from(*out) - expected.sum::<f64>() / sum).abs() < 1e-5);
        }
    }

    const WIDTH: usize = 67;
    const KEYS: usize = 21;
    const HEADS: usize = 6;

    /// What `attend` makes of heads that share keys or that do not, whose rows are a vector and a bit.
    fn attended(sharing: usize, numbers: Numbers) -> (Vec<f32>, Vec<f32>) {
        let size = Size {
            heads: HEADS,
            sharing,
            keys: KEYS,
            value_dim: WIDTH,
        };
        let rows = |start| Rows {
            start,
            step: WIDTH,
            width: WIDTH,
        };
        attend(size, 0.1, numbers, &|head| {
            let tokens = rows(head / sharing * KEYS * WIDTH);
            Heads {
                queries: rows(head * WIDTH),
                keys: tokens,
                values: tokens,
            }
        })
    }

    /// All numbers as others.
    fn as_others<A: Copy, B>(numbers: &[Vec<A>; 3], other: fn(A) -> B) -> [Vec<B>; 3] {
        let all = |numbers: &Vec<A>| numbers.iter().map(|number| other(*number)).collect();
        numbers.each_ref().map(all)
    }

    fn slices<N>(numbers: &[Vec<N>; 3]) -> [&[N]; 3] {
        numbers.each_ref().map(Vec::as_slice)
    }

    /// Of queries, keys and values, as many as heads that share no keys have.
    fn numbers() -> [Vec<f32>; 3] {
        let sizes = [HEADS * WIDTH, HEADS * KEYS * WIDTH, HEADS * KEYS * WIDTH];
        sizes.map(|count| {
            let numbers = (0..count).map(|at| (at * 7919 % 1000) as f32 * 2e-3 - 1.0);
            numbers.collect()
        })
    }

    #[test]
    fn heads_that_share_keys_attend_as_if_each_had_its_own() {
        let [queries, keys, values] = numbers();
        let repeated = |tokens: &[f32]| -> Vec<f32> {
            let heads =
                (0..HEADS).flat_map(|head| &tokens[head / 3 * KEYS * WIDTH..][..KEYS * WIDTH]);
            heads.copied().collect()
        };
        let (all_keys, all_values) = (repeated(&keys), repeated(&values));
        let shared = attended(3, Numbers::F32([&queries, &keys, &values]));
        let own = attended(1, Numbers::F32([&queries, &all_keys, &all_values]));
        assert_eq!(shared, own);
    }

    #[test]
    fn numbers_of_16_bits_attend_as_the_same_of_32() {
        let f16 = as_others(&numbers(), f16::from_f32);
        let same = as_others(&f16, f16::to_f32);
        let expected = attended(2, Numbers::F32(slices(&same)));
        assert_eq!(attended(2, Numbers::F16(slices(&f16))), expected);
        let bf16 = as_others(&numbers(), bf16::from_f32);
        let same = as_others(&bf16, bf16::to_f32);
        let expected = attended(2, Numbers::F32(slices(&same)));
        assert_eq!(attended(2, Numbers::BF16(slices(&bf16))), expected);
    }

    #[test]
    fn heads_without_keys_get_nothing() {
        let rows = Rows {
            start: 0,
            step: 2,
            width: 2,
        };
        let heads = Heads {
            queries: rows,
            keys: rows,
            values: rows,
        };
        let numbers = Numbers::F32([&[1.0; 6], &[], &[]]);
        let size = Size {
            heads: 3,
            sharing: 3,
            keys: 0,
            value_dim: 2,
        };
        let (out, lse) = attend(size, 1.0, numbers, &|_| heads);
        assert_eq!((out, lse), (vec![0.0; 6], vec![f32::NEG_INFINITY; 3]));
    }
}
