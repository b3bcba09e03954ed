//! What the backward needs of each row besides the scores, side by side.
//!
//! ```text
//! LSE,    delta = sum(dO * O) - dLSE,    1 / sum(P),    dLSE
//! ```
//!
//! `exp(S - LSE)` inherits the rounding of `LSE`, and `dO V^T - delta` that of `delta`, the same for a
//! whole row. The query walk sums the weights that it recomputes anyway, whose sum is 1, and the
//! gradients of the scores, whose sum is `dLSE`; it corrects its own gradient by the first and
//! leaves both corrected for the walks after it.

use cubecl::prelude::*;

use super::args::{Layout, Sizes};

/// Numbers per row.
pub(crate) const STATS: usize = 4;
/// Which is which.
pub(crate) const LSE: usize = 0;
pub(crate) const DELTA: usize = 1;
pub(crate) const FACTOR: usize = 2;
pub(crate) const GRAD_LSE: usize = 3;

/// One unit per row. `width` and `chain_length` are those of `dO V^T`; `summed`: no other kernel adds the sums.
#[cube(launch_unchecked, address_type = "dynamic")]
pub(crate) fn attention_delta<E: Float>(
    out: &[E],
    grad_out: &[E],
    lse: &[f32],
    grad_lse: ComptimeOption<Box<[f32]>>,
    stats: &mut [f32],
    out_layout: Layout,
    grad_layout: Layout,
    sizes: Sizes,
    value_dim: usize,
    #[comptime] width: usize,
    #[comptime] chain_length: usize,
    #[comptime] summed: bool,
    #[define(E)] _dtype: ElemType,
) {
    let row = ABSOLUTE_POS;
    if row < sizes.batch * sizes.heads * sizes.seq_q {
        let query = row % sizes.seq_q;
        let pair = row / sizes.seq_q;
        let (batch, head) = (pair / sizes.heads, pair % sizes.heads);
        let at_out = batch * out_layout.batch + head * out_layout.head + query * out_layout.seq;
        let at_grad = batch * grad_layout.batch + head * grad_layout.head + query * grad_layout.seq;
        let mut delta = f32::new(0.0);
        if comptime!(summed) {
            let chunks = value_dim / width;
            // The same chains of roundings as in the products `dO V^T`, so that the two cancel where a
            // row attends to a single key.
            for chain in 0..chunks.div_ceil(chain_length) {
                let mut sums = Array::<f32>::new(width);
                #[unroll]
                for i in 0..width {
                    sums[i] = f32::new(0.0);
                }
                for chunk in chain * chain_length..min(chain * chain_length + chain_length, chunks)
                {
                    #[unroll]
                    for i in 0..width {
                        let e = chunk * width + i;
                        sums[i] = fma(
                            f32::cast_from(grad_out[at_grad + e * grad_layout.dim]),
                            f32::cast_from(out[at_out + e * out_layout.dim]),
                            sums[i],
                        );
                    }
                }
                #[unroll]
                for i in 1..width {
                    sums[0] += sums[i];
                }
                delta += sums[0];
            }
        }
        let mut reached = f32::new(0.0);
        #[comptime]
        match grad_lse {
            ComptimeOption::Some(grad_lse) => {
                reached = select(lse[row] == sizes.neg_inf, reached, grad_lse[row]);
            }
            ComptimeOption::None => {}
        }
        stats[row * STATS + LSE] = lse[row];
        stats[row * STATS + DELTA] = delta - reached;
        stats[row * STATS + FACTOR] = f32::new(1.0);
        stats[row * STATS + GRAD_LSE] = reached;
    }
}

/// One of the rows' numbers as lanes.
#[cube]
pub(crate) fn lane_stats<N: Size>(
    stats: &[f32],
    rows: &Array<usize>,
    first: usize,
    length: usize,
    #[comptime] which: usize,
    #[comptime] groups: usize,
) -> Array<Vector<f32, N>> {
    let lanes = N::value();
    let mut values = Array::<Vector<f32, N>>::new(groups);
    if comptime!(lanes == 1) {
        #[unroll]
        for g in 0..groups {
            let row = min(rows[g], length - 1);
            values[g] = Vector::new(stats[(first + row) * STATS + which]);
        }
    } else {
        let elements = values.with_vector_size_mut::<Const<1>>();
        for slot in 0..comptime!(groups * lanes) {
            let row = min(rows[slot], length - 1);
            elements[slot] = Vector::new(stats[(first + row) * STATS + which]);
        }
    }
    values
}
