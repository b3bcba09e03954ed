//! Sums and products of rows, in the processor's vectors. Their order is that of its vectors.

use pulp::Simd;

/// The sum of the products of numbers and others, as many.
#[inline(always)]
pub(super) fn product<S: Simd>(simd: S, a: &[f32], b: &[f32]) -> f32 {
    let ((a, rest_of_a), (b, rest_of_b)) = (S::as_simd_f32s(a), S::as_simd_f32s(b));
    let mut sum = simd.splat_f32s(0.0);
    for (a, b) in a.iter().zip(b) {
        sum = simd.mul_add_f32s(*a, *b, sum);
    }
    if !rest_of_a.is_empty() {
        let a = simd.partial_load_f32s(rest_of_a);
        sum = simd.mul_add_f32s(a, simd.partial_load_f32s(rest_of_b), sum);
    }
    simd.reduce_sum_f32s(sum)
}

/// Adds `x[0] * rows[0] + x[1] * rows[1] ...` to `out`, in this order; rows are at least as long.
#[inline(always)]
pub(super) fn add_rows<S: Simd, const N: usize>(
    simd: S,
    x: [f32; N],
    rows: [&[f32]; N],
    out: &mut [f32],
) {
    let mut factors = [simd.splat_f32s(0.0); N];
    for (factor, x) in factors.iter_mut().zip(x) {
        *factor = simd.splat_f32s(x);
    }
    let (whole, rest) = S::as_mut_simd_f32s(out);
    let rows = split::<S, N>(rows, whole.len(), rest.len());
    for (at, sums) in whole.iter_mut().enumerate() {
        let mut sum = *sums;
        for (factor, (row, _)) in factors.iter().zip(&rows) {
            sum = simd.mul_add_f32s(*factor, row[at], sum);
        }
        *sums = sum;
    }
    if !rest.is_empty() {
        let mut sum = simd.partial_load_f32s(rest);
        for (factor, (_, row)) in factors.iter().zip(&rows) {
            sum = simd.mul_add_f32s(*factor, simd.partial_load_f32s(row), sum);
        }
        simd.partial_store_f32s(rest, sum);
    }
}

/// The largest of numbers, `-inf` of none.
#[inline(always)]
pub(super) fn largest<S: Simd>(simd: S, numbers: &[f32]) -> f32 {
    let (whole, rest) = S::as_simd_f32s(numbers);
    let mut largest = simd.splat_f32s(f32::NEG_INFINITY);
    for numbers in whole {
        largest = simd.max_f32s(largest, *numbers);
    }
    let rest = rest.iter().copied();
    rest.fold(simd.reduce_max_f32s(largest), f32::max)
}

/// Each row as so many vectors and so many numbers behind them.
#[inline(always)]
fn split<S: Simd, const N: usize>(
    rows: [&[f32]; N],
    vectors: usize,
    rest: usize,
) -> [(&[S::f32s], &[f32]); N] {
    let mut parts: [(&[S::f32s], &[f32]); N] = [(&[], &[]); N];
    for (part, row) in parts.iter_mut().zip(rows) {
        let (whole, beyond) = row.split_at(vectors * S::F32_LANES);
        *part = (&S::as_simd_f32s(whole).0[..vectors], &beyond[..rest]);
    }
    parts
}
