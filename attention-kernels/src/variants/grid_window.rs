//! Swin's windows (Liu et al. 2021, <https://arxiv.org/abs/2103.14030>).

use cubecl::prelude::*;

use crate::modification::{Captured, Lanes, Mask, Place, ScoreMod};

/// Tokens are the points of a grid, row by row, `columns` wide: a query sees the keys of its own
/// window.
///
/// Windows are `window` by `window` and the second ones begin at `shift`, so that the first and the
/// last of a row and of a column are narrower: Swin's shifted windows, without moving a token.
/// `shift` counts modulo `window`.
pub fn grid_window<F, I>(columns: u32, window: u32, shift: u32) -> Mask<F, I> {
    let window = window.max(1);
    Mask::new(same_window::expand)
        .with_count(columns.max(1))
        .with_count(window)
        .with_count((window - shift % window) % window)
}

#[cube]
fn same_window(at: &Place, captured: &Captured) -> Vector<bool, Lanes> {
    let columns = Vector::<u32, Lanes>::new(captured.count(0usize));
    let window = Vector::<u32, Lanes>::new(captured.count(1usize));
    let lead = Vector::<u32, Lanes>::new(captured.count(2usize));
    let same_row =
        ((at.query / columns + lead) / window).equal(&((at.key / columns + lead) / window));
    let same_column =
        ((at.query % columns + lead) / window).equal(&((at.key % columns + lead) / window));
    same_row.vec_and(same_column)
}

/// [`grid_position_bias`](super::grid_position_bias) within windows of `window` by `window` on a grid
/// that is `columns` wide: `score + table[head, offset(query, key)]`.
///
/// `table` is `[heads, (2 * window - 1)^2]` and receives a gradient. What is added to the score of a
/// query and a key that no window of this size could hold both means nothing: hide it, with
/// [`grid_window`].
pub fn window_position_bias<F, I>(table: F, window: u32, columns: u32) -> ScoreMod<F, I> {
    let window = window.max(1);
    let offsets = (2 * window - 1).pow(2);
    ScoreMod::lookup(table, offsets, window_offset::expand)
        .with_count(window)
        .with_count(columns.max(1))
}

#[cube]
fn window_offset(at: &Place, captured: &Captured) -> Vector<u32, Lanes> {
    let window = captured.count(0usize);
    let columns = Vector::<u32, Lanes>::new(captured.count(1usize));
    let reach = Vector::<u32, Lanes>::new(window - 1);
    let dy = at.query / columns + reach - at.key / columns;
    let dx = at.query % columns + reach - at.key % columns;
    dy * Vector::new(2 * window - 1) + dx
}
