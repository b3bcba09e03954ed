//! Products of rows with others, a number for each pair.

use cubecl::prelude::*;

use super::{
    DEPTH, Operand, Rows, padded,
    product::{keep_order, multiply_into, slot_sum, slots_per_tile},
};
use crate::tile::{RowTile, filled, group_row, slot_token};

/// `rows[g] . others[g]`, bit for bit what [`matrix_products`](super::matrix_products) gives of a token that is the other
/// row; of the lanes that share a row, one has it ([`has_row_products`]).
#[cube]
pub(crate) fn row_products<E: Float, N: Size, R: Size, C: Size>(
    rows: &Rows<E, R>,
    others: &Rows<E, R>,
    #[comptime] dim: usize,
    #[comptime] tile: RowTile,
) -> Array<Vector<f32, N>> {
    let spread = comptime!(tile.spread);
    let terms = comptime!(tile.terms);
    let groups = comptime!(tile.groups);
    let of_tile = comptime!(spread.groups_per_tile());
    let vectors = comptime!(spread.sum_vectors());
    let steps = comptime!(padded(dim) / DEPTH);
    // A group's rows are as many as a tile of sums has tokens: those on its diagonal are wanted.
    let mut sums = filled::<C>(0.0f32, comptime!(groups * vectors), true);
    #[unroll]
    for step in 0..steps {
        keep_order(spread);
        #[unroll]
        for g in 0..groups {
            let (m, part) = comptime!((g / of_tile, g % of_tile));
            let mut operand = Operand::<E, R>::new();
            let mut tokens = Operand::<E, R>::new();
            #[unroll]
            for term in 0..terms {
                let at = comptime!(term * steps + step);
                operand.push(rows.part(m, at));
                let other = others.part(m, at);
                let narrow_vectors = comptime!(spread.narrow_vectors());
                let mut narrow = Array::<Vector<E, R>>::new(narrow_vectors);
                #[unroll]
                for v in 0..narrow_vectors {
                    narrow[v] = other[comptime!(v * of_tile + part)];
                }
                tokens.push(narrow);
            }
            multiply_into::<E, R, C>(&operand, &tokens, &mut sums, g, true, tile);
        }
    }
    let diagonal = diagonal_slot(tile);
    let mut products = filled::<N>(0.0f32, groups, true);
    #[unroll]
    for g in 0..groups {
        let mut product = f32::new(0.0);
        #[unroll]
        for slot in 0..comptime!(slots_per_tile(spread)) {
            let sum = slot_sum::<C>(&sums, g, slot, comptime!(g % of_tile), spread);
            product = select(diagonal == slot, sum, product);
        }
        products[g] = Vector::new(product);
    }
    products
}

/// Whether this lane is the one that has its rows' [`row_products`].
#[cube]
pub(crate) fn has_row_products(#[comptime] tile: RowTile) -> bool {
    diagonal_slot(tile) < comptime!(slots_per_tile(tile.spread))
}

/// Which of a tile's tokens that this lane has is as far down as its rows; none is [`slots_per_tile`] or more.
#[cube]
fn diagonal_slot(#[comptime] tile: RowTile) -> usize {
    let slots = comptime!(slots_per_tile(tile.spread));
    let width = comptime!(tile.spread.tile_width());
    let row = group_row(0usize, tile) % width;
    let mut diagonal = slots.runtime();
    #[unroll]
    for slot in 0..slots {
        let token = slot_token(0usize.runtime(), slot.runtime(), tile);
        diagonal = select(token == row, slot.runtime(), diagonal);
    }
    diagonal
}
