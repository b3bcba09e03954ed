//! The results of the parts of the keys put together.
//!
//! ```text
//! LSE = log(sum over parts of exp(LSE_part)),    O = sum over parts of exp(LSE_part - LSE) O_part
//! ```

use cubecl::prelude::*;

use super::exponential::{Exponential, exp_difference};

/// One unit per element of the output; parts are summed in their order. A part without a visible
/// key has an LSE of minus infinity and counts for nothing.
#[cube(launch_unchecked, address_type = "dynamic")]
pub(crate) fn attention_combine<E: Float, N: Size>(
    parts: &[f32],
    part_lse: &[f32],
    out: &mut [E],
    lse: &mut [f32],
    count: usize,
    rows: usize,
    value_dim: usize,
    neg_inf: f32,
    #[comptime] exponential: Exponential,
    #[define(E)] _dtype: ElemType,
) {
    let element = ABSOLUTE_POS;
    if element < rows * value_dim {
        let row = element / value_dim;
        let mut highest = neg_inf;
        for part in 0..count {
            highest = max(highest, part_lse[part * rows + row]);
        }
        let empty = highest == neg_inf;
        let reference = Vector::<f32, N>::new(select(empty, 0.0, highest));
        let mut total = f32::new(0.0);
        let mut sum = f32::new(0.0);
        for part in 0..count {
            let own = Vector::<f32, N>::new(part_lse[part * rows + row]);
            let weight = exp_difference::<N>(own, reference, exponential).extract(0usize);
            total += weight;
            sum += weight * parts[part * rows * value_dim + element];
        }
        let divisor = select(empty, 1.0, total);
        out[element] = E::cast_from(sum / divisor);
        if element % value_dim == 0 {
            // Where one part has every key that the row sees, its own number is exact; not every
            // device's logarithm of 1 is 0.
            let gained = select(divisor == 1.0, 0.0, f32::ln(divisor));
            lse[row] = select(empty, neg_inf, highest + gained);
        }
    }
}
