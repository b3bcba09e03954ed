//! The product of a row and a matrix. It takes as long as reading the matrix does, if every core reads.

use pulp::{Arch, Simd, WithSimd};

use super::{
    cores::{in_parts, share},
    vectors::{add_rows, product},
};

/// A matrix of fewer numbers is read sooner than a second core starts.
const LEAST: usize = 1 << 18;
/// Rows of a matrix that are read at a time.
const ROWS: usize = 8;

/// How the numbers of a matrix `[inputs, outputs]` lie in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Those of one input after those of the input before.
    Inputs,
    /// Those of one output after those of the output before.
    Outputs,
}

/// Adds the product of a row `[inputs]` and a matrix `[inputs, outputs]` to `out`.
///
/// # Panics
/// If the sizes do not fit.
pub fn add_row_product(row: &[f32], matrix: &[f32], order: Order, out: &mut [f32]) {
    assert_eq!(
        row.len() * out.len(),
        matrix.len(),
        "a row of {} and {} outputs do not fit the matrix",
        row.len(),
        out.len()
    );
    match order {
        Order::Inputs => by_inputs(row, matrix, out),
        Order::Outputs => by_outputs(row, matrix, out),
    }
}

/// Each core reads some of the rows, from first to last.
fn by_inputs(row: &[f32], matrix: &[f32], out: &mut [f32]) {
    let outputs = out.len().max(1);
    let inputs = part(row.len(), matrix.len());
    let mut sums = vec![0.0; row.len().div_ceil(inputs) * outputs];
    in_parts(&mut sums, outputs, |first, sums| {
        let start = first / outputs * inputs;
        let row = &row[start..(start + inputs).min(row.len())];
        let matrix = &matrix[start * outputs..];
        Arch::new().dispatch(Product {
            row,
            matrix,
            order: Order::Inputs,
            sums,
        });
    });
    for part in sums.chunks_exact(outputs) {
        for (out, sum) in out.iter_mut().zip(part) {
            *out += sum;
        }
    }
}

/// Each core computes some of the outputs.
fn by_outputs(row: &[f32], matrix: &[f32], out: &mut [f32]) {
    let inputs = row.len().max(1);
    in_parts(out, part(out.len(), matrix.len()), |first, sums| {
        let matrix = &matrix[first * inputs..];
        Arch::new().dispatch(Product {
            row,
            matrix,
            order: Order::Outputs,
            sums,
        });
    });
}

/// How many rows or outputs a core gets of so many, in a matrix of so many numbers.
fn part(count: usize, numbers: usize) -> usize {
    if numbers < LEAST {
        count.max(1)
    } else {
        share(count)
    }
}

/// Adds the product of a row and a matrix to sums, on one core.
struct Product<'a> {
    row: &'a [f32],
    matrix: &'a [f32],
    order: Order,
    sums: &'a mut [f32],
}

impl WithSimd for Product<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        match self.order {
            Order::Inputs => add_inputs(simd, self.row, self.matrix, self.sums),
            Order::Outputs => {
                let rows = self.matrix.chunks_exact(self.row.len().max(1));
                for (sum, weights) in self.sums.iter_mut().zip(rows) {
                    *sum += product(simd, self.row, weights);
                }
            }
        }
    }
}

#[inline(always)]
fn add_inputs<S: Simd>(simd: S, row: &[f32], matrix: &[f32], sums: &mut [f32]) {
    let outputs = sums.len();
    let (whole, rest) = row.as_chunks::<ROWS>();
    for (x, rows) in whole.iter().zip(matrix.chunks_exact(ROWS * outputs)) {
        add_rows(simd, *x, rows_of(rows, outputs), sums);
    }
    let rows = matrix[whole.len() * ROWS * outputs..].chunks_exact(outputs);
    for (x, row) in rest.iter().zip(rows) {
        add_rows(simd, [*x], [row], sums);
    }
}

/// So many rows of a matrix.
#[inline(always)]
fn rows_of<const N: usize>(matrix: &[f32], width: usize) -> [&[f32]; N] {
    let mut rows: [&[f32]; N] = [&[]; N];
    for (row, numbers) in rows.iter_mut().zip(matrix.chunks_exact(width.max(1))) {
        *row = numbers;
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whole numbers, whose sums are exact in any order.
    fn numbers(count: usize) -> Vec<f32> {
        (0..count).map(|at| (at * 37 % 11) as f32 - 5.0).collect()
    }

    #[test]
    fn a_row_times_a_matrix_is_that_of_the_formula_in_either_order() {
        // The last is read by all cores.
        for (inputs, outputs) in [
            (1, 1),
            (7, 3),
            (8, 64),
            (131, 77),
            (641, 2 * LEAST / 641 + 5),
        ] {
            let (row, matrix) = (numbers(inputs), numbers(inputs * outputs));
            let turned: Vec<f32> = (0..inputs * outputs)
                .map(|at| matrix[at % inputs * outputs + at / inputs])
                .collect();
            let expected: Vec<f32> = (0..outputs)
                .map(|at| {
                    let column = matrix.iter().skip(at).step_by(outputs);
                    1.0 + row
                        .iter()
                        .zip(column)
                        .map(|(x, weight)| x * weight)
                        .sum::<f32>()
                })
                .collect();
            for (matrix, order) in [(&matrix, Order::Inputs), (&turned, Order::Outputs)] {
                let mut out = vec![1.0; outputs];
                add_row_product(&row, matrix, order, &mut out);
                assert_eq!(
                    out, expected,
                    "{inputs} inputs, {outputs} outputs, {order:?}"
                );
            }
        }
    }
}
