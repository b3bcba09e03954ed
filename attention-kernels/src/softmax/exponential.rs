//! The exponential of a difference and the hyperbolic tangent.
//!
//! Those of the CPU runtime and of software rasterizers are good to a unit and a half in the last
//! place or worse, and lose what the subtraction before them rounds off. This exponential is good to
//! less than one where `b` is the larger in magnitude, this tangent to less than two.

use cubecl::prelude::*;

/// How a device gets its exponentials.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Exponential {
    /// The device has an instruction or a library function for it.
    Native,
    /// It has none: range reduction and a polynomial.
    Polynomial,
}

const LOG2_E: f32 = std::f32::consts::LOG2_E;
/// `ln 2` in two parts.
const LN_2: f32 = std::f32::consts::LN_2;
const LN_2_REST: f32 = (std::f64::consts::LN_2 - std::f32::consts::LN_2 as f64) as f32;
/// A sum with it is rounded to an integer, whose last bits are those of the exponent of that power of two: 1.5 * 2^23
/// and the exponent of 1. Conversions to integers would be slower, and lavapipe does them lane by lane.
const TO_EXPONENT: f32 = 12_582_912.0 + 127.0;
/// Below, the exponential is 0: it has left the range of normal numbers.
const LOWEST: f32 = -86.0;

/// `(exp(r) - 1 - r) / r^2` for `|r| <= ln(2) / 2`, minimax in the relative error of `exp(r)`: 3.1e-9.
const EXP: [f32; 5] = [
    0.499_999_93,
    0.166_665_2,
    0.041_668_39,
    0.008_368_717,
    0.001_381_459_9,
];
/// `(tanh(x) / x - 1) / x^2` in `x^2` for `|x| <= 0.5625`, minimax in the relative error: 1.3e-9.
const TANH: [f32; 5] = [
    -0.333_333_14,
    0.133_324_52,
    -0.053_837_433,
    0.021_007_465,
    -0.006_179_817,
];
/// From here on `tanh` is taken from the exponential.
const TANH_SERIES: f32 = 0.5625;
/// From here on `tanh` is 1.
const TANH_ONE: f32 = 10.0;

/// `exp(a - b)` for `a - b` below 88, and exactly 0 for `a - b` below -86. What the rounding of
/// `a - b` takes away is kept where `b` is the larger in magnitude; elsewhere the result is small.
#[cube]
pub(crate) fn exp_difference<N: Size>(
    a: Vector<f32, N>,
    b: Vector<f32, N>,
    #[comptime] exponential: Exponential,
) -> Vector<f32, N> {
    let difference = a - b;
    if comptime!(exponential == Exponential::Native) {
        Vector::exp(difference)
    } else {
        exp_of_sum::<N>(difference, a - (difference + b))
    }
}

/// `exp(power + rest)` where `rest` is what the rounding of `power` took away.
#[cube]
fn exp_of_sum<N: Size>(power: Vector<f32, N>, rest: Vector<f32, N>) -> Vector<f32, N> {
    let to_exponent = Vector::new(f32::new(comptime!(TO_EXPONENT)));
    let shifted = fma(power, Vector::new(LOG2_E), to_exponent);
    let exponent = shifted - to_exponent;
    let r = fma(exponent, Vector::new(f32::new(comptime!(-LN_2))), power);
    let r = fma(exponent, Vector::new(f32::new(comptime!(-LN_2_REST))), r) + rest;

    let square = r * r;
    let low = fma(
        r,
        Vector::new(f32::new(comptime!(EXP[1]))),
        Vector::new(f32::new(comptime!(EXP[0]))),
    );
    let high = fma(
        r,
        Vector::new(f32::new(comptime!(EXP[3]))),
        Vector::new(f32::new(comptime!(EXP[2]))),
    );
    let high = fma(square, Vector::new(f32::new(comptime!(EXP[4]))), high);
    let series = fma(square, fma(square, high, low), r);

    let scale = Vector::<i32, N>::reinterpret(shifted) << Vector::new(23i32);
    let scale = Vector::<f32, N>::reinterpret(scale);
    // Multiplied, a series that is NaN stays NaN.
    let scaled = fma(series, scale, scale);
    let vanishes = power.less_than(&Vector::new(f32::new(LOWEST)));
    select_many(vanishes, Vector::new(0.0f32), scaled)
}

/// The hyperbolic tangent.
#[cube]
pub(crate) fn tanh<N: Size>(
    x: Vector<f32, N>,
    #[comptime] exponential: Exponential,
) -> Vector<f32, N> {
    if comptime!(exponential == Exponential::Native) {
        Vector::tanh(x)
    } else {
        let square = x * x;
        let mut series = Vector::<f32, N>::new(f32::new(comptime!(TANH[4])));
        #[unroll]
        for i in 0..4usize {
            let term = Vector::new(f32::new(comptime!(TANH[3 - i])));
            series = fma(series, square, term);
        }
        let series = fma(x * square, series, x);

        let magnitude = x.abs();
        let doubled = magnitude + magnitude;
        let power = exp_of_sum::<N>(doubled, Vector::new(0.0f32));
        let large = Vector::new(1.0f32) - Vector::new(2.0f32) / (power + Vector::new(1.0f32));
        let is_one = magnitude.greater_than(&Vector::new(f32::new(TANH_ONE)));
        let large = select_many(is_one, Vector::new(1.0f32), large);
        let large = select_many(x.less_than(&Vector::new(0.0f32)), -large, large);
        let is_small = magnitude.less_than(&Vector::new(f32::new(TANH_SERIES)));
        select_many(is_small, series, large)
    }
}

#[cfg(all(test, feature = "cpu"))]
mod tests {
    use cubecl::Device;

    use super::*;

    #[cube(launch_unchecked)]
    fn exponentials<N: Size>(
        a: &[Vector<f32, N>],
        b: &[Vector<f32, N>],
        exp: &mut [Vector<f32, N>],
        tangent: &mut [Vector<f32, N>],
    ) {
        for i in 0..a.len() {
            exp[i] = exp_difference::<N>(a[i], b[i], Exponential::Polynomial);
            tangent[i] = tanh::<N>(a[i], Exponential::Polynomial);
        }
    }

    /// `exp(a - b)` and `tanh(a)`.
    fn run(a: &[f32], b: &[f32]) -> [Vec<f32>; 2] {
        const WIDTH: usize = 8;
        let client = Device::cpu().expect("the feature is on").client();
        let length = a.len() / WIDTH;
        // SAFETY: the buffer holds the values.
        let input = |values| unsafe {
            BufferArg::from_raw_parts(client.create_from_slice(f32::as_bytes(values)), length)
        };
        let outputs = [0, 1].map(|_| client.empty(size_of_val(a)));
        // SAFETY: the loop runs over the length that all four buffers have.
        unsafe {
            exponentials::launch_unchecked(
                &client,
                CubeCount::new_single(),
                CubeDim::new_1d(1),
                WIDTH,
                input(a),
                input(b),
                BufferArg::from_raw_parts(outputs[0].clone(), length),
                BufferArg::from_raw_parts(outputs[1].clone(), length),
            );
        }
        outputs.map(|output| {
            let bytes = client.read_one(output).expect("the kernel ran");
            f32::from_bytes(&bytes).to_vec()
        })
    }

    /// Evenly spaced from `low` to `high`.
    fn spaced(low: f32, high: f32) -> Vec<f32> {
        let step = |i| low + (high - low) * i as f32 / 65_535.0;
        (0..65_536).map(step).collect()
    }

    /// The largest relative error in units of the last place.
    fn worst(values: &[f32], expected: impl Iterator<Item = f64>) -> f64 {
        let errors = values.iter().zip(expected).map(|(value, expected)| {
            (f64::from(*value) - expected).abs() / (expected.abs() * f64::from(f32::EPSILON))
        });
        errors.fold(0.0, f64::max)
    }

    #[test]
    fn an_exponential_keeps_what_the_subtraction_rounds_off() {
        let a = spaced(-6.0, 6.0);
        let b = spaced(6.1, 12.3);
        let difference = |(a, b): (&f32, &f32)| (f64::from(*a) - f64::from(*b)).exp();
        let error = worst(&run(&a, &b)[0], a.iter().zip(&b).map(difference));
        assert!(error < 1.0, "{error} units in the last place");
    }

    #[test]
    fn an_exponential_of_any_size_is_exact_beside_1() {
        let a = spaced(-80.0, 0.1);
        let b = spaced(0.2, 5.3);
        let expected = a
            .iter()
            .zip(&b)
            .map(|(a, b)| (f64::from(*a) - f64::from(*b)).exp());
        let errors = run(&a, &b)[0]
            .iter()
            .zip(expected)
            .map(|(value, expected)| (f64::from(*value) - expected).abs())
            .fold(0.0, f64::max);
        assert!(errors < f64::from(f32::EPSILON), "{errors:e}");
    }

    #[test]
    fn a_tangent_is_as_exact_as_the_librarys() {
        let a = spaced(-12.0, 12.0);
        let expected = a.iter().map(|a| f64::from(*a).tanh());
        let error = worst(&run(&a, &a)[1], expected);
        assert!(error < 2.0, "{error} units in the last place");
    }

    #[test]
    fn exponentials_of_the_vanishing_are_exactly_0_and_nan_stays() {
        let a = [
            f32::MIN,
            f32::MIN,
            -200.0,
            -87.0,
            f32::NAN,
            0.0,
            f32::MIN / 2.0,
            3.0,
        ];
        let b = [
            0.0,
            f32::MIN / 2.0,
            0.0,
            0.0,
            0.0,
            f32::NAN,
            f32::MIN / 2.0,
            3.0,
        ];
        let exp = &run(&a, &b)[0];
        assert_eq!(exp[..4], [0.0; 4]);
        assert!(exp[4].is_nan() && exp[5].is_nan());
        assert_eq!(exp[6..], [1.0; 2]);
    }
}
