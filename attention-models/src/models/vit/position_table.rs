use burn::module::{Initializer, Module, Param};
use burn::tensor::{Device, Tensor};

use super::VisionTransformerConfig;
use crate::ops::{ScoreMod, variants};

/// Learned terms of attention for each offset from key to query on the grid of patches, and for
/// the class token as query, as key, and as both (BEiT, Bao et al. 2021,
/// <https://arxiv.org/abs/2106.08254>).
#[derive(Module, Debug)]
pub struct PositionTable {
    /// `[(2 * grid - 1)^2 + 3, heads]`
    pub table: Param<Tensor<2>>,
    grid: usize,
}

impl PositionTable {
    pub(super) fn new(config: &VisionTransformerConfig, device: &Device) -> Self {
        let grid = config.trained_grid();
        let entries = (2 * grid - 1).pow(2) + 3;
        Self {
            table: Initializer::Zeros.init([entries, config.heads], device),
            grid,
        }
    }

    /// The term of each query and key, as code.
    pub fn score_mod(&self) -> ScoreMod {
        let [entries, heads] = self.table.dims();
        let table = self.table.val().swap_dims(0, 1).reshape([heads * entries]);
        variants::class_grid_position_bias(table, self.grid as u32, self.grid as u32)
    }
}
