//! Functions of a number, and sums, in a form that compilers make vector instructions of.

/// Sums are kept for so many numbers at a time, in an order that no processor changes.
const LANES: usize = 16;

/// The sum of a function of each number.
#[inline(always)]
pub(super) fn sum(row: &[f32], of: impl Fn(f32) -> f32) -> f32 {
    let (whole, rest) = row.as_chunks::<LANES>();
    let mut sums = [0.0; LANES];
    for values in whole {
        for (sum, x) in sums.iter_mut().zip(values) {
            *sum += of(*x);
        }
    }
    let rest: f32 = rest.iter().map(|x| of(*x)).sum();
    sums.iter().sum::<f32>() + rest
}

/// `1 / (1 + exp(-x))`
#[inline(always)]
pub(super) fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

/// Within 1.2e-7 of the exponential function, relatively; with x within -87 and 88, beyond which it
/// stays as it is there. By the polynomial of Cephes (<https://www.netlib.org/cephes/>).
#[inline(always)]
pub(super) fn exp(x: f32) -> f32 {
    /// Added to a number, it leaves the nearest integer in the lowest bits.
    const SHIFT: f32 = 12_582_912.0;
    const LN_2: [f32; 2] = [0.693_359_4, -2.121_944_4e-4];
    const COEFFICIENTS: [f32; 6] = [
        1.987_569_1e-4,
        1.398_199_9e-3,
        8.333_452e-3,
        4.166_579_6e-2,
        1.666_666_5e-1,
        0.5,
    ];
    let x = x.clamp(-87.0, 88.0);
    let shifted = x * std::f32::consts::LOG2_E + SHIFT;
    let n = shifted - SHIFT;
    let r = x - n * LN_2[0] - n * LN_2[1];
    let y = polynomial(COEFFICIENTS, r) * r * r + r + 1.0;
    y * f32::from_bits((shifted.to_bits() << 23).wrapping_add(127 << 23))
}

/// Within 3.1e-7 of the error function, by the rational function that Eigen uses.
#[inline(always)]
pub(super) fn erf(x: f32) -> f32 {
    /// From here on it is 1.
    const END: f32 = 3.832_507;
    const ABOVE: [f32; 5] = [
        2.290_506_5e-4,
        3.408_291e-3,
        5.095_569_5e-2,
        1.852_083_2e-1,
        std::f32::consts::FRAC_2_SQRT_PI,
    ];
    const BELOW: [f32; 7] = [
        -1.179_160_3e-7,
        2.354_796_6e-5,
        1.017_962_5e-3,
        1.407_047e-2,
        1.109_850_5e-1,
        4.974_692_5e-1,
        1.0,
    ];
    let x = x.clamp(-END, END);
    (x * polynomial(ABOVE, x * x) / polynomial(BELOW, x * x)).clamp(-1.0, 1.0)
}

#[inline(always)]
fn polynomial<const N: usize>(coefficients: [f32; N], x: f32) -> f32 {
    coefficients.into_iter().fold(0.0, |sum, c| sum * x + c)
}
