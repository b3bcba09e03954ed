//! Swin's relative position bias (Liu et al. 2021, <https://arxiv.org/abs/2103.14030>), and BEiT's
//! (Bao et al. 2021, <https://arxiv.org/abs/2106.08254>).

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

/// As [`grid_position_bias`] for a class token at position 0 and the points of a grid after it.
///
/// `table` is `[heads, (2 * height - 1) * (2 * width - 1) + 3]`; behind the offsets lie the terms of
/// the class token as query, of the class token as key, and of both.
pub fn class_grid_position_bias<F, I>(table: F, height: u32, width: u32) -> ScoreMod<F, I> {
    let (height, width) = (height.max(1), width.max(1));
    let offsets = (2 * height - 1) * (2 * width - 1);
    ScoreMod::lookup(table, offsets + 3, class_or_offset::expand)
        .with_count(height)
        .with_count(width)
        .with_count(offsets)
}

#[cube]
fn class_or_offset(at: &Place, captured: &Captured) -> Vector<u32, Lanes> {
    let rows = captured.count(0usize);
    let columns = captured.count(1usize);
    let offsets = Vector::<u32, Lanes>::new(captured.count(2usize));
    let first = Vector::<u32, Lanes>::new(0u32);
    let one = Vector::<u32, Lanes>::new(1u32);
    let width = Vector::<u32, Lanes>::new(columns);
    let query = max(at.query, one) - one;
    let key = max(at.key, one) - one;
    let dy = query / width + Vector::new(rows - 1) - key / width;
    let dx = query % width + Vector::new(columns - 1) - key % width;
    let between = dy * Vector::new(2 * columns - 1) + dx;
    let from_class = at.query.equal(&first);
    let to_class = at.key.equal(&first);
    let with_key = select_many(to_class, offsets + one, between);
    let of_class = select_many(to_class, offsets + one + one, offsets);
    select_many(from_class, of_class, with_key)
}
