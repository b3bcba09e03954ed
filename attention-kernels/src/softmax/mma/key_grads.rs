//! The gradients of a cube's keys or values on their way out: nothing where they are not wanted.

use cubecl::prelude::*;

use crate::{
    softmax::rows::OwnedRows,
    tile::{Aside, RowTile, Sums, filled, set_aside, store_sums},
};

/// Writes the sums of one head times `factor`; its rows begin at row `first`.
#[cube]
pub(super) fn store_gradients<E: Float, N: Size, C: Size, O: Size>(
    target: &mut ComptimeOption<Box<[Vector<E, O>]>>,
    sums: &Array<Vector<f32, C>>,
    factor: f32,
    aside: &Aside<N>,
    own: &OwnedRows,
    first: usize,
    length: usize,
    #[comptime] layout: Sums,
    #[comptime] tile: RowTile,
) {
    #[comptime]
    match target {
        ComptimeOption::Some(target) => {
            let mut factors = filled::<N>(1.0f32, tile.groups, true);
            #[unroll]
            for g in 0..tile.groups {
                factors[g] = Vector::new(factor);
            }
            store_sums::<E, N, C, O>(
                sums, &factors, target, &own.rows, first, length, aside, layout, tile,
            );
        }
        ComptimeOption::None => {}
    }
}

/// After a step: sets aside the sums of one head, where it is time.
#[cube]
pub(super) fn set_gradients_aside<E: Float, N: Size, C: Size, O: Size>(
    target: &mut ComptimeOption<Box<[Vector<E, O>]>>,
    sums: &mut Array<Vector<f32, C>>,
    aside: &mut Aside<N>,
    own: &OwnedRows,
    first: usize,
    length: usize,
    #[comptime] layout: Sums,
    #[comptime] tile: RowTile,
) {
    #[comptime]
    match target {
        ComptimeOption::Some(target) => {
            set_aside::<E, N, C, O>(aside, sums, target, &own.rows, first, length, layout, tile)
        }
        ComptimeOption::None => {}
    }
}
