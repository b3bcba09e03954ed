//! A step's tokens in shared memory.

use cubecl::{
    cmma::{MatrixIdent, MmaDefinition},
    prelude::*,
};

use super::{DEPTH, padded, rows::operand_start};
use crate::tile::{RowTile, Spread};

/// Elements that set a row apart from the next, so that eight rows meet different banks.
pub(super) const APART: usize = 8;

/// Where a lane's row of the first product's operand begins in a place.
#[cube]
pub(super) fn dims_row(#[comptime] dim: usize, #[comptime] tile: RowTile) -> usize {
    let lane = UNIT_POS_PLANE as usize;
    let stride = comptime!(padded(dim) + APART);
    if comptime!(tile.spread == Spread::Quads) {
        (lane % 8 + lane / 16 * 8) * stride + lane / 8 % 2 * 8
    } else {
        lane % 16 * stride
    }
}

/// Where a lane's row of the second product's operand begins in a place.
#[cube]
pub(super) fn tokens_row(#[comptime] dim: usize, #[comptime] tile: RowTile) -> usize {
    let lane = UNIT_POS_PLANE as usize;
    if comptime!(tile.spread == Spread::Quads) {
        lane % 16 * comptime!(padded(dim) + APART) + 8 * (lane / 16)
    } else {
        lane % 16 * comptime!(tile.block + APART)
    }
}

/// Elements of a step's tokens, token after token.
pub(super) fn place_length(dim: usize, tile: RowTile) -> usize {
    tile.block * (padded(dim) + APART)
}

/// Shared memory for rows of `dim`: where they are padded, zeros.
#[cube]
pub(super) fn zeroed<E: Float>(
    #[comptime] length: usize,
    #[comptime] dim: usize,
    #[comptime] units: usize,
) -> Shared<[E]> {
    let mut memory = Shared::<[E]>::new_aligned_slice(length, 16usize);
    if comptime!(!dim.is_multiple_of(DEPTH)) {
        for turn in 0..comptime!(length.div_ceil(units)) {
            let at = turn * units + UNIT_POS as usize;
            if at < length {
                memory[at] = E::from_int(0);
            }
        }
        sync_cube();
    }
    memory
}

/// Four matrices of 8 x 8, whose rows the lanes point at in turn.
#[cube]
pub(super) fn load_matrices<E: Float, R: Size>(
    memory: &Shared<[E]>,
    row: usize,
    #[comptime] transpose: bool,
) -> Array<Vector<E, R>> {
    MmaDefinition::<E, E, f32>::new(16usize, 8usize, DEPTH).load_matrix::<E, R>(
        &memory[row..row + 8],
        MatrixIdent::B,
        4usize,
        transpose,
    )
}

/// A lane's vectors of the operand whose row begins at `row`.
#[cube]
pub(super) fn read_operand<E: Float, R: Size>(
    memory: &Shared<[E]>,
    row: usize,
    #[comptime] spread: Spread,
) -> Array<Vector<E, R>> {
    let vectors = comptime!(spread.operand_vectors());
    let width = R::value();
    let mut operand = Array::<Vector<E, R>>::new(vectors);
    #[unroll]
    for v in 0..vectors {
        let start = row + operand_start(v, spread);
        operand[v] = memory.as_vectorized().with_vector_size::<R>()[start / width];
    }
    operand
}
