//! Element types of queries, keys, values and biases.

use serde::{Deserialize, Serialize};

/// The element type of an attention problem. Accumulation is always in `f32`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DType {
    /// IEEE binary32.
    F32,
    /// IEEE binary16.
    F16,
    /// bfloat16.
    BF16,
}

impl DType {
    /// Bytes of one element.
    pub const fn bytes(self) -> usize {
        match self {
            DType::F32 => 4,
            DType::F16 | DType::BF16 => 2,
        }
    }

    /// The largest relative error of rounding a real number to this type (half a unit in the last
    /// place): 2^-24, 2^-11 or 2^-8.
    pub const fn unit_roundoff(self) -> f64 {
        match self {
            DType::F32 => 5.960_464_477_539_063e-8,
            DType::F16 => 4.882_812_5e-4,
            DType::BF16 => 3.906_25e-3,
        }
    }
}

impl std::fmt::Display for DType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            DType::F32 => "f32",
            DType::F16 => "f16",
            DType::BF16 => "bf16",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unit_roundoff_is_half_a_unit_in_the_last_place() {
        for (dtype, significand_bits) in [(DType::F32, 24), (DType::F16, 11), (DType::BF16, 8)] {
            assert_eq!(dtype.unit_roundoff(), 2f64.powi(-significand_bits));
        }
    }
}
