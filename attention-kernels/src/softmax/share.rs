//! What the lanes that share a row found, each of keys of its own, put together in shared memory.

use cubecl::prelude::*;

use super::{args::Blueprint, score::weight};

/// Numbers of all lanes' sums that pass through shared memory at once: half of what a browser promises.
const NUMBERS_AT_ONCE: usize = 2048;

/// A lane's part of what its row's lanes share. Lanes with the same keys, which share the dimensions, are as many
/// rows here.
#[derive(CubeType)]
pub(crate) struct RowShare<N: Size> {
    /// The row among the cube's, and the lane among the row's.
    row: usize,
    lane: usize,
    /// What is left of this lane's sums beside the row's maximum.
    kept: Vector<f32, N>,
    /// The row's.
    pub highest: Vector<f32, N>,
    pub total: Vector<f32, N>,
    #[cube(comptime)]
    rows: usize,
    #[cube(comptime)]
    lanes: usize,
}

#[cube]
impl<N: Size> RowShare<N> {
    /// From the maximum and the sum of weights of each lane's own keys.
    pub fn new(
        highest: Vector<f32, N>,
        total: Vector<f32, N>,
        #[comptime] rows: usize,
        #[comptime] lanes: usize,
        #[comptime] blueprint: Blueprint,
    ) -> RowShare<N> {
        let unit = UNIT_POS as usize;
        let (row, lane) = (unit % rows, unit / rows);
        let mut across = Shared::<[f32]>::new_slice(comptime!(rows * lanes));
        across[unit] = highest.extract(0usize);
        sync_cube();
        let mut top = across[row];
        for other in 1..lanes {
            top = max(top, across[other * rows + row]);
        }
        let top = Vector::new(top);
        let kept = weight::<N>(highest, top, blueprint);
        sync_cube();
        across[unit] = total.extract(0usize) * kept.extract(0usize);
        sync_cube();
        let mut sum = across[row];
        for other in 1..lanes {
            sum += across[other * rows + row];
        }
        RowShare::<N> {
            row,
            lane,
            kept,
            highest: top,
            total: Vector::new(sum),
            rows,
            lanes,
        }
    }

    /// Whether this lane is the first of its row's, of which `columns` share the dimensions.
    pub fn leads(&self, #[comptime] columns: usize) -> bool {
        let column = self.row % columns;
        self.lane == 0 && column == 0
    }

    /// Writes the row's sums times `factor`, if it `exists`: `dim` dimensions from the chunk `at` of `target` on, of
    /// which this lane has every `columns`-th chunk. Lanes write chunks in turns.
    pub fn store<F: Float, R: Size, W: Size>(
        &self,
        sums: &Array<Vector<f32, R>>,
        factor: f32,
        target: &mut [Vector<F, W>],
        at: usize,
        exists: bool,
        #[comptime] dim: usize,
        #[comptime] columns: usize,
    ) {
        let width = W::value();
        let rows = comptime!(self.rows);
        let lanes = comptime!(self.lanes);
        let units = comptime!(rows * lanes);
        let chunks = comptime!(dim / width / columns);
        let at_once = comptime!((NUMBERS_AT_ONCE / (width * units)).min(chunks).max(1));
        let mut parts =
            Shared::<[Vector<f32, R>]>::new_aligned_slice(comptime!(at_once * units), 16usize);
        let kept = self.kept.extract(0usize);
        #[unroll]
        for turn in 0..comptime!(chunks.div_ceil(at_once)) {
            let first = comptime!(turn * at_once);
            let count = comptime!(at_once.min(chunks - first));
            sync_cube();
            #[unroll]
            for i in 0..count {
                parts[i * units + UNIT_POS as usize] = sums[first + i] * Vector::new(kept);
            }
            sync_cube();
            #[unroll]
            for step in 0..comptime!(count.div_ceil(lanes)) {
                let i = self.lane + comptime!(step * lanes);
                if exists && i < count {
                    let start = i * units + self.row;
                    let mut sum = parts[start];
                    for other in 1..lanes {
                        sum += parts[start + other * rows];
                    }
                    target[at + (first + i) * columns] =
                        Vector::cast_from(sum * Vector::new(factor));
                }
            }
        }
    }
}
