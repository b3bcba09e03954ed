//! Swin's relative position bias (Liu et al. 2021, <https://arxiv.org/abs/2103.14030>).

use cubecl::prelude::*;

use crate::modification::{Captured, Lanes, Place, ScoreMod};

/// Tokens are the points of a grid, row by row: `score + table[head, offset(query, key)]`, where
/// the offset counts `(dy + height - 1) * (2 * width - 1) + dx + width - 1` with `dy` and `dx` from
/// the key to the query.
///
/// `table` is `[heads, (2 * height - 1) * (2 * width - 1)]`: the transpose of the checkpoints'.
pub fn grid_position_bias<F, I>(table: F, height: u32, width: u32) -> ScoreMod<F, I> {
    ScoreMod::additive(entry::expand)
        .with_floats(table)
        .with_count(height.max(1))
        .with_count(width.max(1))
}

#[cube]
fn entry(at: &Place, captured: &Captured) -> Vector<f32, Lanes> {
    let rows = captured.count(0usize);
    let columns = captured.count(1usize);
    let width = Vector::<u32, Lanes>::new(columns);
    let dy = at.query / width + Vector::new(rows - 1) - at.key / width;
    let dx = at.query % width + Vector::new(columns - 1) - at.key % width;
    let across = 2 * columns - 1;
    let of_head = at.head * (2 * rows - 1) * across;
    captured.floats(0usize, dy * Vector::new(across) + dx + Vector::new(of_head))
}
