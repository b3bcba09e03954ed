//! Attention of single queries, as each step of generation has it: one pass over the keys and one over
//! the values of each head, at the speed of memory.

use half::{bf16, f16};
use pulp::{Arch, Simd, WithSimd};

use super::{
    cores::{LEAST, in_parts, share},
    functions::{exp, sum},
    vectors::{add_rows, largest, product},
};

/// Numbers as a tensor stores them.
#[derive(Debug, Clone, Copy)]
pub enum Numbers<'a> {
    /// Of 32 bits.
    F32(&'a [f32]),
    /// Of IEEE 754's 16.
    F16(&'a [f16]),
    /// The upper 16 of 32.
    BF16(&'a [bf16]),
}

impl Numbers<'_> {
    /// Those from this one on.
    ///
    /// # Panics
    /// If there are not so many.
    #[must_use]
    pub fn from(self, start: usize) -> Self {
        match self {
            Self::F32(numbers) => Self::F32(&numbers[start..]),
            Self::F16(bits) => Self::F16(&bits[start..]),
            Self::BF16(bits) => Self::BF16(&bits[start..]),
        }
    }
}

/// Rows of numbers, evenly spaced in memory.
#[derive(Debug, Clone, Copy)]
pub struct Rows<'a> {
    /// From the first row on.
    pub numbers: Numbers<'a>,
    /// From the start of a row to that of the next.
    pub step: usize,
    /// Numbers of a row.
    pub width: usize,
}

/// What heads attend with that share their keys, of one type of numbers.
#[derive(Debug, Clone, Copy)]
pub struct Heads<'a> {
    /// A row for each head, as wide as the keys.
    pub queries: Rows<'a>,
    /// As many as there are values.
    pub keys: Rows<'a>,
    /// As wide in all heads.
    pub values: Rows<'a>,
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
/// If rows are missing, their widths differ, or their types.
// Not generic: a crate that is built without optimisation would compile the loops for itself.
pub fn attend<'a>(
    size: Size,
    scale: f32,
    heads: &(dyn Fn(usize) -> Heads<'a> + Sync),
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
            attend_heads(&heads(head), size, scale, own);
            (rows, head) = (rest, head + alike);
        }
    });
    let rows = || rows.chunks_exact(width);
    let out = rows().flat_map(|row| &row[..value_dim]).copied().collect();
    (out, rows().map(|row| row[value_dim]).collect())
}

/// Leaves the output of each head and its log-sum-exp in its row.
fn attend_heads(heads: &Heads, size: Size, scale: f32, rows: &mut [f32]) {
    assert_eq!(
        heads.queries.width, heads.keys.width,
        "widths of queries and keys"
    );
    let tensors = [heads.queries, heads.keys, heads.values].map(|rows| rows.numbers);
    match tensors {
        [Numbers::F32(q), Numbers::F32(k), Numbers::F32(v)] => {
            attend_with([q, k, v], heads, size, scale, rows);
        }
        [Numbers::F16(q), Numbers::F16(k), Numbers::F16(v)] => {
            attend_with([q, k, v], heads, size, scale, rows);
        }
        [Numbers::BF16(q), Numbers::BF16(k), Numbers::BF16(v)] => {
            attend_with([q, k, v], heads, size, scale, rows);
        }
        _ => panic!("queries, keys and values are of one type"),
    }
}

fn attend_with<N: Number>(
    tensors: [&[N]; 3],
    heads: &Heads,
    size: Size,
    scale: f32,
    rows: &mut [f32],
) {
    Arch::new().dispatch(Attend {
        tensors,
        heads,
        size,
        scale,
        rows,
    });
}

/// Heads that share their keys, their numbers of one type.
struct Attend<'a, N> {
    tensors: [&'a [N]; 3],
    heads: &'a Heads<'a>,
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
fn row<'a, N>(numbers: &'a [N], rows: &Rows, index: usize) -> &'a [N] {
    &numbers[index * rows.step..][..rows.width]
}

/// A number as it is stored.
trait Number: Copy {
    fn number(self) -> f32;

    /// A row in f32: where it lies, or in a buffer that is as long or longer.
    #[inline(always)]
    fn widen<'a>(row: &'a [Self], buffer: &'a mut [f32]) -> &'a [f32] {
        for (number, stored) in buffer.iter_mut().zip(row) {
            *number = stored.number();
        }
        &buffer[..row.len()]
    }
}

impl Number for f32 {
    #[inline(always)]
    fn number(self) -> f32 {
        self
    }

    #[inline(always)]
    fn widen<'a>(row: &'a [Self], _buffer: &'a mut [f32]) -> &'a [f32] {
        row
    }
}

impl Number for f16 {
    #[inline(always)]
    fn number(self) -> f32 {
        from_f16(self)
    }
}

impl Number for bf16 {
    #[inline(always)]
    fn number(self) -> f32 {
        f32::from_bits(u32::from(self.to_bits()) << 16)
    }
}

/// As `f16::to_f32`, but vectors of them: sign and exponent move to their places in a number of 32 bits, whose
/// exponent's bias is larger by 112.
#[inline(always)]
fn from_f16(number: f16) -> f32 {
    const BIASES: f32 = f32::from_bits((112 + 127) << 23);
    const INFINITE: u32 = 0x7f80_0000;
    let moved = (i32::from(number.to_bits().cast_signed()) << 13).cast_unsigned() & 0x8fff_ffff;
    let finite = f32::from_bits(moved) * BIASES;
    if finite.abs() < 65536.0 {
        finite
    } else {
        f32::from_bits(finite.to_bits() | INFINITE)
    }
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
        let head = Heads {
            queries: rows(Numbers::F32(&query), 3, 3),
            keys: rows(Numbers::F32(&keys), 5, 3),
            values: rows(Numbers::F32(&values), 2, 2),
        };
        let size = Size {
            heads: 1,
            sharing: 1,
            keys: 3,
            value_dim: 2,
        };
        let (out, lse) = attend(size, 0.5, &|_| head);
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
    fn attended(sharing: usize, numbers: [Numbers; 3]) -> (Vec<f32>, Vec<f32>) {
        let size = Size {
            heads: HEADS,
            sharing,
            keys: KEYS,
            value_dim: WIDTH,
        };
        let [queries, keys, values] = numbers;
        attend(size, 0.1, &|head| {
            let tokens = head / sharing * KEYS * WIDTH;
            let [queries, keys, values] =
                [(queries, head * WIDTH), (keys, tokens), (values, tokens)].map(
                    |(numbers, start)| Rows {
                        numbers: numbers.from(start),
                        step: WIDTH,
                        width: WIDTH,
                    },
                );
            Heads {
                queries,
                keys,
                values,
            }
        })
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
        let shared = attended(3, [&queries, &keys, &values].map(|row| Numbers::F32(row)));
        let own = attended(
            1,
            [&queries, &all_keys, &all_values].map(|row| Numbers::F32(row)),
        );
        assert_eq!(shared, own);
    }

    #[test]
    fn numbers_of_16_bits_attend_as_the_same_of_32() {
        let f16 = numbers().map(|row| row.into_iter().map(f16::from_f32).collect::<Vec<_>>());
        let same = f16
            .each_ref()
            .map(|row| row.iter().map(|x| x.to_f32()).collect::<Vec<_>>());
        let found = attended(2, f16.each_ref().map(|row| Numbers::F16(row)));
        assert_eq!(
            found,
            attended(2, same.each_ref().map(|row| Numbers::F32(row)))
        );
        let bf16 = numbers().map(|row| row.into_iter().map(bf16::from_f32).collect::<Vec<_>>());
        let same = bf16
            .each_ref()
            .map(|row| row.iter().map(|x| x.to_f32()).collect::<Vec<_>>());
        let found = attended(2, bf16.each_ref().map(|row| Numbers::BF16(row)));
        assert_eq!(
            found,
            attended(2, same.each_ref().map(|row| Numbers::F32(row)))
        );
    }

    #[test]
    fn every_number_of_16_bits_is_read_as_what_it_is() {
        for number in (0..=u16::MAX).map(f16::from_bits) {
            let (read, expected) = (from_f16(number), number.to_f32());
            assert!(
                read.to_bits() == expected.to_bits() || read.is_nan() && expected.is_nan(),
                "{:#x} is {expected}, not {read}",
                number.to_bits()
            );
        }
    }

    #[test]
    fn heads_without_keys_get_nothing() {
        let none = Rows {
            numbers: Numbers::F32(&[]),
            step: 2,
            width: 2,
        };
        let head = Heads {
            queries: Rows {
                numbers: Numbers::F32(&[1.0; 6]),
                ..none
            },
            keys: none,
            values: none,
        };
        let size = Size {
            heads: 3,
            sharing: 3,
            keys: 0,
            value_dim: 2,
        };
        let (out, lse) = attend(size, 1.0, &|_| head);
        assert_eq!((out, lse), (vec![0.0; 6], vec![f32::NEG_INFINITY; 3]));
    }
}
