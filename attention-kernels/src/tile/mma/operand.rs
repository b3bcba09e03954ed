//! What the softmax leaves as the operand of the second product.

use cubecl::prelude::*;

use super::{Operand, terms::store_terms};
use crate::tile::{RowTile, Spread};

/// The weights of 16 tokens of the `m`-th tile of rows, an operand for each term.
#[cube]
pub(super) fn weight_operand<E: Float, N: Size, R: Size>(
    weights: &Array<Vector<f32, N>>,
    #[comptime] m: usize,
    #[comptime] step: usize,
    #[comptime] tile: RowTile,
) -> Operand<E, R> {
    let spread = comptime!(tile.spread);
    let groups = comptime!(tile.groups);
    let vectors = comptime!(spread.operand_vectors());
    let mut operands = Operand::<E, R>::new();
    #[unroll]
    for _ in 0..comptime!(tile.terms) {
        operands.push(Array::new(vectors));
    }
    #[unroll]
    for v in 0..vectors {
        let mut pair = Vector::<f32, R>::new(0.0f32);
        match comptime!(spread) {
            Spread::Quads => {
                let g = comptime!(m * 2 + v % 2);
                let slot = comptime!(4 * step + 2 * (v / 2));
                pair.insert(
                    0usize,
                    weights[comptime!(slot * groups + g)].extract(0usize),
                );
                pair.insert(
                    1usize,
                    weights[comptime!((slot + 1) * groups + g)].extract(0usize),
                );
            }
            Spread::Alternating => {
                let odd = UNIT_POS_PLANE >= 16;
                #[unroll]
                for i in 0..4usize {
                    let slot = comptime!((8 * step + 4 * v + i) * groups + m);
                    let own = weights[slot].extract(0usize);
                    let other = plane_shuffle_xor(own, 16);
                    pair.insert(comptime!(2 * i), select(odd, other, own));
                    pair.insert(comptime!(2 * i + 1), select(odd, own, other));
                }
            }
            Spread::Lane | Spread::Split { .. } | Spread::Halves | Spread::Runs { .. } => {
                #[unroll]
                for i in 0..8usize {
                    let slot = comptime!((8 * step + i) * groups + m);
                    pair.insert(i, weights[slot].extract(0usize));
                }
            }
        }
        store_terms::<E, R>(pair, &mut operands, v);
    }
    operands
}
