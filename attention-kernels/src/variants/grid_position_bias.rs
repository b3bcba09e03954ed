//! Swin's relative position bias (Liu et al. 2021, <https://arxiv.org/abs/2103.14030>).

use cubecl::prelude::*;

use crate::modification::{Captured, Lanes, Place, ScoreMod};

/// Tokens are the points of a grid, row by row: `score + table[head, offset(query, key)]`, where
/// the offset counts `(dy + height - 1) * (2 * width - 1) + dx + width - 1` with `dy` and `dx` from
/// the key to the query.
///
/// `table` is `[heads, (2 * height - 1) * (2 * width - 1)]`, the transpose of the checkpoints', and
/// receives a gradient.
pub fn grid_position_bias<F, I>(table: F, height: u32, width: u32) -> ScoreMod<F, I> {
    let (height, width) = (height.max(1), width.max(1));
    let offsets = (2 * height - 1) * (2 * width - 1);
    ScoreMod::lookup(table, offsets, offset::expand)
        .with_count(height)
        .with_count(width)
}

#[cube]
fn offset(at: &Place, captured: &Captured) -> Vector<u32, Lanes> {
    let rows = captured.count(0usize);
    let columns = captured.count(1usize);
    let width = Vector::<u32, Lanes>::new(columns);
    let dy = at.query / width + Vector::new(rows - 1) - at.key / width;
    let dx = at.query % width + Vector::new(columns - 1) - at.key % width;
    let across = 2 * columns - 1;
    dy * Vector::new(across) + dx
}
