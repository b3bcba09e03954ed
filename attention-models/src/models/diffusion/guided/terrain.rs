//! Heights of the terrain that the weights of `adaptive-terrain-diffusion` draw.

use attention_core::AttentionError;
use burn::tensor::{Device, Tensor};

use super::GuidedUNet;
use crate::models::diffusion::Noise;

/// The largest height that the model draws.
const HEIGHT_RANGE: f32 = 22.168_64;
/// Below this height, the model's values grow as heights do; above, as their logarithm.
const LINEAR_BELOW: f32 = 0.1;
/// Difficulties are counted from 1 to this.
const DIFFICULTIES: usize = 100;

/// A square of heights above the lowest point.
#[derive(Debug, Clone, PartialEq)]
pub struct Terrain {
    /// Heights along one side.
    pub size: usize,
    /// Row by row.
    pub heights: Vec<f32>,
}

impl GuidedUNet {
    /// Draws a terrain in one step, from the noise of a seed: of `difficulty` 1, flat, to 100, steep.
    ///
    /// # Errors
    /// [`AttentionError::Value`] for another difficulty, or a type of weights in which the model overflows.
    pub fn terrain(
        &self,
        difficulty: usize,
        seed: u64,
        device: &Device,
    ) -> Result<Terrain, AttentionError> {
        if !(1..=DIFFICULTIES).contains(&difficulty) {
            return Err(AttentionError::Value {
                argument: "difficulty",
                given: difficulty.to_string(),
                accepted: format!("1 to {DIFFICULTIES}"),
            });
        }
        let (size, sigma) = (self.config.image_size, self.config.sigma_max);
        let label = (difficulty - 1) as f64 / (DIFFICULTIES - 1) as f64;
        let one = |number: f64| Tensor::<1>::full([1], number, device);
        let noise = Noise::new(seed).normal([1, self.config.inputs, size, size], device);
        let image = self.denoise(noise.mul_scalar(sigma), one(sigma), one(label))?;
        let values: Vec<f32> = image.into_data().iter::<f32>().collect();
        if values.iter().any(|value| !value.is_finite()) {
            return Err(AttentionError::Value {
                argument: "dtype",
                given: format!(
                    "{:?}, in which the model overflows",
                    self.out.2.weight.dtype()
                ),
                accepted: "F32, BF16".into(),
            });
        }
        Ok(Terrain::of(size, &values))
    }
}

impl Terrain {
    /// Of the model's values, from -1 to 1.
    fn of(size: usize, values: &[f32]) -> Self {
        let range = (HEIGHT_RANGE / LINEAR_BELOW).asinh();
        let height = |value: &f32| {
            let share = ((value + 1.0) / 2.0).clamp(0.0, 1.0);
            LINEAR_BELOW * (share * range).sinh()
        };
        let heights: Vec<f32> = values.iter().map(height).collect();
        let lowest = heights.iter().copied().fold(f32::INFINITY, f32::min);
        Self {
            size,
            heights: heights.into_iter().map(|height| height - lowest).collect(),
        }
    }

    /// The largest height.
    pub fn highest(&self) -> f32 {
        self.heights.iter().copied().fold(0.0, f32::max)
    }

    /// How much light of a low sun in the north-west falls on each place, from 0 to 1; places are
    /// `spacing` apart, as heights are counted.
    pub fn shade(&self, spacing: f32) -> Vec<f32> {
        // Towards the sun: left, up the page, and above.
        let sun = [-0.5f32, -0.5, std::f32::consts::FRAC_1_SQRT_2];
        let last = self.size - 1;
        let at = |x: usize, y: usize| self.heights[y.min(last) * self.size + x.min(last)];
        let light = |place: usize| {
            let (x, y) = (place % self.size, place / self.size);
            let slope = |from: f32, to: f32| (to - from) / (2.0 * spacing);
            let across = slope(at(x.saturating_sub(1), y), at(x + 1, y));
            let down = slope(at(x, y.saturating_sub(1)), at(x, y + 1));
            let length = (across * across + down * down + 1.0).sqrt();
            let facing = -across * sun[0] - down * sun[1] + sun[2];
            (facing / length).clamp(0.0, 1.0)
        };
        (0..self.heights.len()).map(light).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slope_that_faces_the_sun_is_lighter_than_one_that_turns_away() {
        let ridge = |x: usize| 3.0 - (x as f32 - 3.0).abs();
        let heights = (0..49).map(|place| ridge(place % 7)).collect();
        let terrain = Terrain { size: 7, heights };
        let shade = terrain.shade(1.0);
        assert!(shade[3 * 7 + 1] > shade[3 * 7 + 5] + 0.3);
        assert_eq!(terrain.highest(), 3.0);
    }

    #[test]
    fn values_of_the_model_become_heights_above_the_lowest_point() {
        let terrain = Terrain::of(2, &[-1.0, -1.0, 1.0, 0.0]);
        assert_eq!(terrain.heights[..2], [0.0, 0.0]);
        assert!((terrain.heights[2] - HEIGHT_RANGE).abs() < 1e-4);
        assert!(terrain.heights[3] < 2.0);
    }
}
