//! The two products of a step.

use cubecl::prelude::*;

use super::{
    DEPTH, Operand, Rows, Staged, Sums, multiply, operand::weight_operand, padded, terms::products,
};
use crate::tile::{RowTile, Spread, filled};

/// `scores[slot * groups + g] = factor * rows[g] . tokens[slot]` for a step. `turned`: terms are summed in the order
/// that they have in a walk where rows and tokens change places.
#[cube]
pub(crate) fn matrix_products<E: Float, N: Size, R: Size, C: Size, W: Size>(
    rows: &Rows<E, R>,
    tokens: &Staged<E, W>,
    scores: &mut Array<Vector<f32, N>>,
    factor: f32,
    #[comptime] dim: usize,
    #[comptime] turned: bool,
    #[comptime] tile: RowTile,
) {
    let spread = comptime!(tile.spread);
    let tiles = comptime!(tile.groups / spread.groups_per_tile());
    let terms = comptime!(tile.terms);
    let steps = comptime!(padded(dim) / DEPTH);
    let at_once = comptime!(operands_at_once(spread));
    let vectors = comptime!(spread.sum_vectors());
    let token_tiles = comptime!(tile.block / spread.tile_width());
    let mut sums = filled::<C>(0.0f32, comptime!(token_tiles * tiles * vectors), true);
    #[unroll]
    for step in 0..steps {
        keep_order(spread);
        let mut operands = Sequence::<Operand<E, R>>::new();
        #[unroll]
        for m in 0..tiles {
            let mut operand = Operand::<E, R>::new();
            #[unroll]
            for term in 0..terms {
                operand.push(rows.part(m, comptime!(term * steps + step)));
            }
            operands.push(operand);
        }
        #[unroll]
        for pair in 0..comptime!(token_tiles / at_once) {
            let mut loaded = Operand::<E, R>::new();
            #[unroll]
            for term in 0..terms {
                let ahead = comptime!(term * steps + step);
                loaded.push(tokens.along_dims::<R>(comptime!(pair * at_once), ahead));
            }
            #[unroll]
            for part in 0..at_once {
                let operand = part_of::<E, R>(&loaded, part, tile);
                #[unroll]
                for m in 0..tiles {
                    let target = comptime!((pair * at_once + part) * tiles + m);
                    multiply_into::<E, R, C>(
                        operands.index(m),
                        &operand,
                        &mut sums,
                        target,
                        turned,
                        tile,
                    );
                }
            }
        }
    }
    scatter::<N, C>(&sums, scores, factor, tile);
}

/// `sums[g] += weights[., g] * tokens` for a step.
#[cube]
pub(crate) fn matrix_accumulate<E: Float, N: Size, R: Size, C: Size, W: Size>(
    sums: &mut Array<Vector<f32, C>>,
    weights: &Array<Vector<f32, N>>,
    tokens: &Staged<E, W>,
    #[comptime] layout: Sums,
    #[comptime] tile: RowTile,
) {
    let spread = comptime!(tile.spread);
    let terms = comptime!(tile.terms);
    let row_tiles = comptime!(tile.groups / spread.groups_per_tile());
    let tiles = comptime!(layout.tiles(tile));
    let stride = comptime!(layout.row_tile(tile) / spread.sum_vectors());
    let at_once = comptime!(operands_at_once(spread));
    #[unroll]
    for step in 0..comptime!(tile.block / DEPTH) {
        keep_order(spread);
        let mut operands = Sequence::<Operand<E, R>>::new();
        #[unroll]
        for m in 0..row_tiles {
            operands.push(weight_operand::<E, N, R>(weights, m, step, tile));
        }
        #[unroll]
        for pair in 0..comptime!(tiles / at_once) {
            let mut loaded = Operand::<E, R>::new();
            #[unroll]
            for term in 0..terms {
                let ahead = comptime!(pair * at_once + term * tiles);
                loaded.push(tokens.along_tokens::<R>(ahead, step));
            }
            #[unroll]
            for part in 0..at_once {
                let operand = part_of::<E, R>(&loaded, part, tile);
                let d = comptime!(pair * at_once + part);
                #[unroll]
                for m in 0..row_tiles {
                    let target = comptime!(m * stride + d);
                    multiply_into::<E, R, C>(
                        operands.index(m),
                        &operand,
                        sums,
                        target,
                        false,
                        tile,
                    );
                }
            }
        }
        if comptime!(layout.counts) {
            let ones = ones::<E, R>(spread);
            #[unroll]
            for m in 0..row_tiles {
                let target = comptime!(m * stride + tiles);
                multiply_into::<E, R, C>(operands.index(m), &ones, sums, target, false, tile);
            }
        }
    }
}

/// LLVM's scheduler for RDNA loads the operands of a whole product ahead, more than registers hold: it
/// does not move them over this, for which the plane does nothing.
#[cube]
pub(super) fn keep_order(#[comptime] spread: Spread) {
    if comptime!(spread != Spread::Quads) {
        sync_plane();
    }
}

/// An operand of tokens that are all 1, for weights of one term.
#[cube]
fn ones<E: Float, R: Size>(#[comptime] spread: Spread) -> Operand<E, R> {
    let vectors = comptime!(spread.narrow_vectors());
    let mut operand = Array::<Vector<E, R>>::new(vectors);
    #[unroll]
    for v in 0..vectors {
        operand[v] = Vector::new(E::from_int(1));
    }
    let mut terms = Sequence::new();
    terms.push(operand);
    terms
}

/// Operands of tokens that one load gives.
fn operands_at_once(spread: Spread) -> usize {
    if spread == Spread::Quads { 2 } else { 1 }
}

/// One of the operands that loads of every term gave.
#[cube]
fn part_of<E: Float, R: Size>(
    loaded: &Operand<E, R>,
    #[comptime] part: usize,
    #[comptime] tile: RowTile,
) -> Operand<E, R> {
    let vectors = comptime!(tile.spread.narrow_vectors());
    let mut terms = Sequence::new();
    #[unroll]
    for term in 0..comptime!(tile.terms) {
        let mut operand = Array::<Vector<E, R>>::new(vectors);
        #[unroll]
        for v in 0..vectors {
            operand[v] = loaded.index(term)[comptime!(part * vectors + v)];
        }
        terms.push(operand);
    }
    terms
}

/// Adds the product of a tile of rows with tokens to the `target`-th tile of `sums`.
#[cube]
pub(super) fn multiply_into<E: Float, R: Size, C: Size>(
    rows: &Operand<E, R>,
    tokens: &Operand<E, R>,
    sums: &mut Array<Vector<f32, C>>,
    #[comptime] target: usize,
    #[comptime] turned: bool,
    #[comptime] tile: RowTile,
) {
    let spread = comptime!(tile.spread);
    let terms = comptime!(tile.terms);
    let vectors = comptime!(spread.sum_vectors());
    let mut own = Array::<Vector<f32, C>>::new(vectors);
    #[unroll]
    for v in 0..vectors {
        own[v] = if comptime!(terms == 1) {
            sums[comptime!(target * vectors + v)]
        } else {
            Vector::new(0.0f32)
        };
    }
    #[unroll]
    for product in 0..comptime!(products(terms).len()) {
        let (row, token) = comptime!(products(terms)[product]);
        let (row, token) = comptime!(if turned { (token, row) } else { (row, token) });
        multiply::<E, R, C>(rows.index(row), tokens.index(token), &mut own, spread);
    }
    #[unroll]
    for v in 0..vectors {
        let at = comptime!(target * vectors + v);
        // Matrix instructions cut off what an addition to a large sum cannot hold, where arithmetic rounds to
        // the nearest: a bias that grows with every one of them.
        sums[at] = if comptime!(terms == 1) {
            own[v]
        } else {
            sums[at] + own[v]
        };
    }
}

/// Tiles of sums as scores of this lane.
#[cube]
fn scatter<N: Size, C: Size>(
    sums: &Array<Vector<f32, C>>,
    scores: &mut Array<Vector<f32, N>>,
    factor: f32,
    #[comptime] tile: RowTile,
) {
    let spread = comptime!(tile.spread);
    let of_tile = comptime!(spread.groups_per_tile());
    let row_tiles = comptime!(tile.groups / of_tile);
    let slots = comptime!(slots_per_tile(spread));
    #[unroll]
    for t in 0..comptime!(tile.block / spread.tile_width()) {
        #[unroll]
        for g in 0..comptime!(tile.groups) {
            #[unroll]
            for slot in 0..slots {
                let target = comptime!(t * row_tiles + g / of_tile);
                let sum = slot_sum::<C>(sums, target, slot, comptime!(g % of_tile), spread);
                scores[comptime!((t * slots + slot) * tile.groups + g)] = Vector::new(sum * factor);
            }
        }
    }
}

/// Tokens of a tile of sums that a lane has.
pub(super) fn slots_per_tile(spread: Spread) -> usize {
    spread.sum_vectors() / spread.groups_per_tile() * spread.sum_width()
}

/// The sum of a lane's `slot`-th token in the `target`-th tile, for one of its rows there.
#[cube]
pub(super) fn slot_sum<C: Size>(
    sums: &Array<Vector<f32, C>>,
    #[comptime] target: usize,
    #[comptime] slot: usize,
    #[comptime] row: usize,
    #[comptime] spread: Spread,
) -> f32 {
    let width = comptime!(spread.sum_width());
    let (v, i) = comptime!((slot / width, slot % width));
    let first = comptime!(target * spread.sum_vectors());
    let sum = sums[comptime!(first + v * spread.groups_per_tile() + row)];
    sum.extract(i)
}
