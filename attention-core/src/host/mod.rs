//! What models do to every number beside their products, in the processor's memory: as wide as the
//! processor's vectors, and on all cores where that pays.

mod attention;
mod cores;
mod functions;
mod numbers;
mod patches;
mod products;
mod vectors;

pub use attention::{Heads, Numbers, Rows, Size, attend};
pub use patches::patches;
pub use products::{Order, add_row_product};

use cores::{rows, rows_from, widest};
use functions::{erf, sigmoid, sum};

/// `x * Phi(x)` (Hendrycks & Gimpel 2016, <https://arxiv.org/abs/1606.08415>).
pub fn gelu(values: &mut [f32]) {
    rows(values, 1, |values| {
        widest!(for x in values {
            *x = 0.5 * *x * (1.0 + erf(*x * std::f32::consts::FRAC_1_SQRT_2));
        });
    });
}

/// `x * sigmoid(x)`
pub fn silu(values: &mut [f32]) {
    rows(values, 1, |values| {
        widest!(for x in values {
            *x *= sigmoid(*x);
        });
    });
}

/// `gate * sigmoid(gate) * inner` in the place of `gate`.
///
/// # Panics
/// If the two differ in length.
pub fn gated_silu(gate: &mut [f32], inner: &[f32]) {
    assert_eq!(
        gate.len(),
        inner.len(),
        "a gate is as long as what it is for"
    );
    rows_from(gate, 1, |first, gate| {
        widest!(open_gate(gate, &inner[first..]));
    });
}

/// Two arguments, which a compiler knows to be two places.
#[inline(always)]
fn open_gate(gate: &mut [f32], inner: &[f32]) {
    for (gate, inner) in gate.iter_mut().zip(inner) {
        *gate *= sigmoid(*gate) * inner;
    }
}

/// Each row of `weight.len()` numbers by `weight / sqrt(mean(x^2) + epsilon)` (Zhang & Sennrich 2019,
/// <https://arxiv.org/abs/1910.07467>).
///
/// # Panics
/// If there are no whole rows.
pub fn rms_norm(values: &mut [f32], weight: &[f32], epsilon: f32) {
    let width = weight.len();
    rows(values, width, |values| {
        widest!(for row in values.chunks_exact_mut(width) {
            let length = (sum(row, |x| x * x) / width as f32 + epsilon).sqrt();
            for (x, weight) in row.iter_mut().zip(weight) {
                *x = *x / length * weight;
            }
        });
    });
}

/// Images `[batch, weight.len(), pixels]` with mean 0 and variance 1 in each of `groups` groups of their
/// channels, then each channel by its weight and bias (Wu & He 2018, <https://arxiv.org/abs/1803.08494>).
///
/// # Panics
/// If there are no whole images, or `groups` does not divide the channels.
pub fn group_norm(
    values: &mut [f32],
    [groups, pixels]: [usize; 2],
    [weight, bias]: [&[f32]; 2],
    epsilon: f32,
) {
    let channels = weight.len();
    assert!(
        groups > 0 && channels.is_multiple_of(groups),
        "{groups} groups do not divide {channels} channels"
    );
    let of_group = channels / groups;
    let size = of_group * pixels;
    rows_from(values, size, |first, values| {
        widest!(
            for (group, values) in values.chunks_exact_mut(size).enumerate() {
                let mean = sum(values, |x| x) / size as f32;
                let variance = sum(values, |x| (x - mean) * (x - mean)) / size as f32;
                let scale = 1.0 / (variance + epsilon).sqrt();
                let channel = (first + group) % groups * of_group;
                for (place, values) in values.chunks_exact_mut(pixels).enumerate() {
                    let weight = weight[channel + place] * scale;
                    let bias = bias[channel + place];
                    for x in values {
                        *x = (*x - mean) * weight + bias;
                    }
                }
            }
        );
    });
}

/// Turns the pairs `i` and `i + cosines.len()` of each of `heads`, of `width` numbers each, by the
/// angles whose cosines and sines these are; what a head has more is left as it is.
///
/// # Panics
/// If a head is not as wide as two rows of cosines, or there are as many sines.
pub fn rotate_halves(heads: &mut [f32], width: usize, cosines: &[f32], sines: &[f32]) {
    widest!({
        for head in heads.chunks_exact_mut(width) {
            let (first, rest) = head.split_at_mut(cosines.len());
            let second = &mut rest[..cosines.len()];
            let pairs = first.iter_mut().zip(second);
            for ((a, b), (cosine, sine)) in pairs.zip(cosines.iter().zip(sines)) {
                (*a, *b) = (*a * cosine - *b * sine, *b * cosine + *a * sine);
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use super::{cores::LEAST, *};

    /// From -20 to 20, and what is not usual.
    fn numbers() -> Vec<f32> {
        let usual = (-20_000..=20_000).map(|x| x as f32 * 1e-3);
        usual.chain([-1e30, -100.0, 100.0, 1e30]).collect()
    }

    fn assert_close(found: &[f32], expected: impl Fn(f64) -> f64, bound: f64) {
        for (x, found) in numbers().iter().zip(found) {
            let expected = expected(f64::from(*x));
            let error = (f64::from(*found) - expected).abs();
            assert!(
                error <= bound * expected.abs().max(1.0),
                "at {x}: {found}, not {expected}"
            );
        }
    }

    /// By its series, as far as its terms do not cancel; beyond, it is 1 to 2e-8.
    fn erf_in_double(x: f64) -> f64 {
        if x.abs() > 4.0 {
            return x.signum();
        }
        let (mut term, mut sum) = (x, x);
        for n in 1..200 {
            term *= -x * x / f64::from(n);
            sum += term / f64::from(2 * n + 1);
        }
        sum * 2.0 / std::f64::consts::PI.sqrt()
    }

    #[test]
    fn gelu_is_that_of_the_formula() {
        let mut found = numbers();
        gelu(&mut found);
        let expected = |x: f64| 0.5 * x * (1.0 + erf_in_double(x / std::f64::consts::SQRT_2));
        assert_close(&found, expected, 1e-6);
    }

    #[test]
    fn silu_is_that_of_the_formula_with_and_without_a_gate() {
        let expected = |x: f64| x / (1.0 + (-x).exp());
        let mut found = numbers();
        silu(&mut found);
        assert_close(&found, expected, 1e-6);
        let mut gated = numbers();
        gated_silu(&mut gated, &vec![2.0; found.len()]);
        for (gated, found) in gated.iter().zip(found) {
            assert!((gated - 2.0 * found).abs() <= 1e-6 * found.abs());
        }
    }

    #[test]
    fn numbers_that_are_none_stay_none() {
        let mut values = [f32::NAN; 3];
        gelu(&mut values[..1]);
        silu(&mut values[1..2]);
        rms_norm(&mut values[2..], &[1.0], 1e-6);
        assert!(values.iter().all(|x| x.is_nan()));
    }

    #[test]
    fn every_row_is_normalised_by_its_own_length_on_any_core() {
        const WIDTH: usize = 37;
        let count = 3 * LEAST / WIDTH;
        let mut values: Vec<f32> = (0..count * WIDTH)
            .map(|at| ((at * 7919 % 1000) as f32 - 500.0) * 1e-2)
            .collect();
        let before = values.clone();
        let weight: Vec<f32> = (0..WIDTH).map(|at| at as f32).collect();
        rms_norm(&mut values, &weight, 0.5);
        for (row, before) in values.chunks(WIDTH).zip(before.chunks(WIDTH)) {
            let squares = before.iter().map(|x| f64::from(*x).powi(2));
            let length = (squares.sum::<f64>() / WIDTH as f64 + 0.5).sqrt();
            for ((x, before), weight) in row.iter().zip(before).zip(&weight) {
                let expected = f64::from(*before) / length * f64::from(*weight);
                assert!((f64::from(*x) - expected).abs() <= 1e-5 * expected.abs());
            }
        }
    }

    #[test]
    fn every_group_of_every_image_has_mean_0_and_variance_1_before_its_channels_weights() {
        let (pixels, groups) = (4099, 8);
        let (weight, bias) = ([2.0; 16], [0.5; 16]);
        let numbers = 3 * weight.len() * pixels;
        let mut values: Vec<f32> = (0..numbers).map(|at| (at * 31 % 977) as f32).collect();
        group_norm(&mut values, [groups, pixels], [&weight, &bias], 0.0);
        for group in values.chunks(2 * pixels) {
            let count = group.len() as f64;
            let mean = group.iter().map(|x| f64::from(*x)).sum::<f64>() / count;
            let squares = group.iter().map(|x| (f64::from(*x) - mean).powi(2));
            assert!((mean - 0.5).abs() < 1e-4);
            assert!((squares.sum::<f64>() / count - 4.0).abs() < 1e-4);
        }
    }

    #[test]
    fn each_channel_has_its_own_weight_and_bias() {
        let mut values = [1.0, 3.0, 1.0, 3.0, 5.0, 7.0, 5.0, 7.0];
        let (weight, bias) = ([1.0, 2.0, 3.0, 4.0], [0.0, 1.0, 2.0, 3.0]);
        group_norm(&mut values, [2, 2], [&weight, &bias], 0.0);
        assert_eq!(values, [-1.0, 1.0, -1.0, 3.0, -1.0, 5.0, -1.0, 7.0]);
    }

    #[test]
    fn a_rotation_by_a_right_angle_swaps_halves_and_leaves_the_rest() {
        let mut heads = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0];
        rotate_halves(&mut heads, 5, &[0.0, 0.0], &[1.0, 1.0]);
        assert_eq!(
            heads,
            [-3.0, -4.0, 1.0, 2.0, 5.0, -8.0, -9.0, 6.0, 7.0, 10.0]
        );
    }
}
