//! How far from the truth a result may be.

use attention_core::DType;
use burn::tensor::Device;

/// Where ours runs, and where the unfused run that bounds its error.
#[derive(Debug, Clone, Copy)]
pub struct Devices<'a> {
    /// The device that is checked.
    pub ours: &'a Device,
    /// Another device spares the checked one from compiling Burn's operations. An error depends on dtype and
    /// values, and hardly on the device, except that of a long sum of Burn's own.
    pub unfused: &'a Device,
}

impl<'a> Devices<'a> {
    /// Both on one device.
    pub fn same(device: &'a Device) -> Self {
        Self {
            ours: device,
            unfused: device,
        }
    }
}

/// The largest error that passes: twice that of an unfused run in the same dtype, and two roundings of
/// the largest expected value.
pub fn bound(peer_error: f64, dtype: DType, largest: f64) -> f64 {
    2.0 * peer_error + 2.0 * dtype.unit_roundoff() * largest
}

/// The largest difference; infinite unless every infinity is met exactly, and for any NaN or a
/// length that differs.
pub fn distance(values: &[f64], expected: &[f64]) -> f64 {
    if values.len() != expected.len() {
        return f64::INFINITY;
    }
    values
        .iter()
        .zip(expected)
        .map(|(value, expected)| match (value - expected).abs() {
            _ if value == expected => 0.0,
            difference if difference.is_nan() => f64::INFINITY,
            difference => difference,
        })
        .fold(0.0, f64::max)
}

/// The largest finite magnitude.
pub fn largest(values: &[f64]) -> f64 {
    values
        .iter()
        .filter(|value| value.is_finite())
        .fold(0.0, |largest, value| largest.max(value.abs()))
}
