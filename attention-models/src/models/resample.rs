//! Bicubic resampling of a grid of vectors, as torch's `interpolate` computes it with
//! `align_corners=False`: learned position embeddings are fitted to an image of another size by
//! it.
//!
//! Each axis is one product with a sparse matrix of weights, so gradients flow and every device
//! can run it.

use burn::tensor::{DType, Device, Tensor, TensorData};
use serde::{Deserialize, Serialize};

/// Which of torch's two bicubic filters.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Bicubic {
    /// Four taps, the border repeated (Keys' kernel with `a = -0.75`).
    #[default]
    Plain,
    /// `antialias=True`: the kernel (`a = -0.5`) is widened when shrinking, and weights beyond
    /// the border are left out.
    Antialiased,
}

/// Resizes a grid `[rows, columns, width]` to `[to[0], to[1], width]`.
///
/// ```
/// use attention_models::models::resample::{Bicubic, resize_grid};
/// use burn::tensor::{Device, Tensor};
///
/// let grid = Tensor::<3>::ones([4, 4, 2], &Device::flex());
/// assert_eq!(resize_grid(grid, [7, 9], Bicubic::Plain).dims(), [7, 9, 2]);
/// ```
///
/// # Panics
///
/// Panics if a side is 0.
pub fn resize_grid(grid: Tensor<3>, to: [usize; 2], filter: Bicubic) -> Tensor<3> {
    let [rows, columns, width] = grid.dims();
    assert!(
        rows * columns * to[0] * to[1] > 0,
        "a grid of {rows}x{columns} cannot be resized to {to:?}: no side may be 0"
    );
    let (device, dtype) = (grid.device(), grid.dtype());
    let grid = grid.cast(DType::F32);
    let grid = filter
        .matrix(rows, to[0], &device)
        .matmul(grid.reshape([rows, columns * width]))
        .reshape([to[0], columns, width])
        .swap_dims(0, 1)
        .reshape([columns, to[0] * width]);
    filter
        .matrix(columns, to[1], &device)
        .matmul(grid)
        .reshape([to[1], to[0], width])
        .swap_dims(0, 1)
        .cast(dtype)
}

impl Bicubic {
    /// `[to, from]`: row `i` holds the weights of the inputs in output `i`.
    fn matrix(self, from: usize, to: usize, device: &Device) -> Tensor<2> {
        let weights = self.weights(from, to);
        Tensor::from_data(TensorData::new(weights, [to, from]), device)
    }

    fn weights(self, from: usize, to: usize) -> Vec<f32> {
        let scale = from as f64 / to as f64;
        let mut weights = vec![0.0; to * from];
        for (i, row) in weights.chunks_exact_mut(from).enumerate() {
            let centre = (i as f64 + 0.5) * scale;
            match self {
                Bicubic::Plain => plain_row(centre - 0.5, row),
                Bicubic::Antialiased => antialiased_row(centre, scale.max(1.0), row),
            }
        }
        weights.into_iter().map(|weight| weight as f32).collect()
    }
}

fn plain_row(at: f64, row: &mut [f64]) {
    let last = row.len() as i64 - 1;
    let first = at.floor() as i64 - 1;
    for tap in first..first + 4 {
        row[tap.clamp(0, last) as usize] += keys(at - tap as f64, -0.75);
    }
}

fn antialiased_row(centre: f64, stretch: f64, row: &mut [f64]) {
    let support = 2.0 * stretch;
    let first = (centre - support + 0.5).max(0.0) as usize;
    let end = ((centre + support + 0.5) as usize).min(row.len());
    let taps = &mut row[first..end];
    for (tap, weight) in taps.iter_mut().enumerate() {
        *weight = keys(((first + tap) as f64 + 0.5 - centre) / stretch, -0.5);
    }
    let sum: f64 = taps.iter().sum();
    taps.iter_mut().for_each(|weight| *weight /= sum);
}

/// Keys' cubic convolution kernel, 1981.
fn keys(x: f64, a: f64) -> f64 {
    let x = x.abs();
    if x <= 1.0 {
        ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0
    } else if x < 2.0 {
        a * (((x - 5.0) * x + 8.0) * x - 4.0)
    } else {
        0.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Resized by Pillow 12, mode F, `Image.BICUBIC`, which torch's antialiased filter equals.
    #[test]
    fn the_antialiased_filter_agrees_with_pillow() {
        let grid: Vec<f32> = vec![
            0.0, 1.0, 4.0, 2.0, 3.0, -1.0, 2.0, 5.0, 1.0, 0.0, -2.0, 3.0, 2.0, 4.0, 1.0, 0.0,
        ];
        let grow_and_shrink = [
            -0.040558, 2.760341, 2.549831, 0.962983, 1.584939, 3.659712, 1.804035, -0.103014,
            4.21586, 0.900675, -1.282991, 2.096083, 1.762283, 0.723293, 0.652847, 2.784235,
            2.856709, -0.028062,
        ];
        let shrink_and_grow = [
            1.489431, 0.104972, 0.996643, 2.969512, 3.61763, 1.73804, 1.839672, 0.509556, 0.123184,
            1.998987,
        ];
        let device = Device::flex();
        let grid = Tensor::from_data(TensorData::new(grid, [4, 4, 1]), &device);
        let check = |to: [usize; 2], expected: &[f32]| {
            let resized = resize_grid(grid.clone(), to, Bicubic::Antialiased);
            let resized = resized.into_data();
            let resized: &[f32] = resized.as_slice().unwrap();
            for (given, expected) in resized.iter().zip(expected) {
                assert!((given - expected).abs() < 1e-5, "{given} is not {expected}");
            }
        };
        check([6, 3], &grow_and_shrink);
        check([2, 5], &shrink_and_grow);
    }

    #[test]
    fn every_row_of_weights_sums_to_one_and_the_same_size_changes_nothing() {
        for filter in [Bicubic::Plain, Bicubic::Antialiased] {
            for (from, to) in [(1, 5), (37, 16), (16, 37), (7, 7)] {
                for row in filter.weights(from, to).chunks_exact(from) {
                    assert!((row.iter().sum::<f32>() - 1.0).abs() < 1e-5);
                }
            }
            let same = filter.weights(5, 5);
            assert!((0..25).all(|i| same[i] == f32::from(i / 5 == i % 5)));
        }
    }
}
