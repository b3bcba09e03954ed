//! The rows of a plane as operands.

use cubecl::prelude::*;

use super::{DEPTH, padded};
use crate::tile::{Layout, RowTile, Spread, lane_start};

/// The rows of one head, for each tile of 16 rows one operand for each 16 dimensions: in registers, or
/// where those do not suffice in shared memory, where every lane reads what it wrote.
#[derive(CubeType)]
pub(crate) struct Rows<E: Float, R: Size> {
    held: ComptimeOption<Array<Vector<E, R>>>,
    lent: ComptimeOption<Shared<[Vector<E, R>]>>,
    #[cube(comptime)]
    dim: usize,
    #[cube(comptime)]
    units: usize,
    #[cube(comptime)]
    tile: RowTile,
}

#[cube]
impl<E: Float, R: Size> Rows<E, R> {
    /// Room for rows of `dim` dimensions.
    pub fn new(
        #[comptime] dim: usize,
        #[comptime] units: usize,
        #[comptime] tile: RowTile,
    ) -> Rows<E, R> {
        let vectors = comptime!(row_vectors(dim, tile));
        let (held, lent) = if comptime!(tile.lent) {
            let length = comptime!(vectors * lent_lanes(units, tile));
            let lent = Shared::<[Vector<E, R>]>::new_aligned_slice(length, 16usize);
            (ComptimeOption::new_None(), ComptimeOption::new_Some(lent))
        } else {
            let held = Array::<Vector<E, R>>::new(vectors);
            (ComptimeOption::new_Some(held), ComptimeOption::new_None())
        };
        Rows::<E, R> {
            held,
            lent,
            dim,
            units,
            tile,
        }
    }

    /// Reads the rows at `positions` of one head; those beyond the last of the `length` repeat it.
    pub fn load<P: Size>(
        &mut self,
        source: &[Vector<E, P>],
        layout: &Layout,
        batch: usize,
        head: usize,
        positions: &Array<usize>,
        length: usize,
    ) {
        let spread = comptime!(self.tile.spread);
        let groups = comptime!(spread.groups_per_tile());
        let steps = comptime!(padded(self.dim) / DEPTH);
        let vectors = comptime!(spread.operand_vectors());
        let origin = batch * layout.batch + head * layout.head;
        #[unroll]
        for part in 0..comptime!(self.tile.groups / groups * steps) {
            #[unroll]
            for v in 0..vectors {
                let position = positions[comptime!(part / steps * groups + v % groups)];
                let row = origin + min(position, length - 1) * layout.seq;
                let first = comptime!(part % steps * DEPTH) + operand_start(v, spread);
                let read = read_dims::<E, R, P>(source, row, layout.dim, first, self.dim);
                #[comptime]
                match &mut self.held {
                    ComptimeOption::Some(held) => held[comptime!(part * vectors + v)] = read,
                    ComptimeOption::None => {}
                }
                let at = self.lent_at(part, v);
                #[comptime]
                match &mut self.lent {
                    ComptimeOption::Some(lent) => lent[at] = read,
                    ComptimeOption::None => {}
                }
            }
        }
        // What was read leaves its registers before the next tensor's rows need them.
        if comptime!(self.tile.lent) {
            sync_cube();
        }
    }

    /// The operand of the `m`-th tile and the `step`-th 16 dimensions.
    pub fn part(&self, #[comptime] m: usize, #[comptime] step: usize) -> Array<Vector<E, R>> {
        let vectors = comptime!(self.tile.spread.operand_vectors());
        let part = comptime!(m * (padded(self.dim) / DEPTH) + step);
        let mut operand = Array::<Vector<E, R>>::new(vectors);
        #[unroll]
        for v in 0..vectors {
            #[comptime]
            match &self.held {
                ComptimeOption::Some(held) => operand[v] = held[comptime!(part * vectors + v)],
                ComptimeOption::None => {}
            }
            #[comptime]
            match &self.lent {
                ComptimeOption::Some(lent) => operand[v] = lent[self.lent_at(part, v)],
                ComptimeOption::None => {}
            }
        }
        operand
    }

    /// Where a lane's vector lies in shared memory.
    fn lent_at(&self, #[comptime] part: usize, #[comptime] v: usize) -> usize {
        let vectors = comptime!(self.tile.spread.operand_vectors());
        let lanes = comptime!(lent_lanes(self.units, self.tile));
        let unit = UNIT_POS as usize;
        let lane = match comptime!(self.tile.spread) {
            // Both halves of a plane hold the same.
            Spread::Alternating => unit / 32 * 16 + unit % 16,
            _ => unit,
        };
        (comptime!(part * lanes) + lane) * vectors + v
    }
}

/// Vectors that a lane has of rows of `dim` dimensions.
fn row_vectors(dim: usize, tile: RowTile) -> usize {
    let spread = tile.spread;
    tile.groups / spread.groups_per_tile() * padded(dim) / DEPTH * spread.operand_vectors()
}

/// Lanes of a cube whose vectors differ.
fn lent_lanes(units: usize, tile: RowTile) -> usize {
    match tile.spread {
        Spread::Alternating => units / 2,
        _ => units,
    }
}

/// Bytes of shared memory that a cube's rows of 16-bit elements take.
pub(crate) fn row_bytes(dim: usize, units: usize, tile: RowTile) -> usize {
    let width = tile.spread.operand_width();
    let lent = row_vectors(dim, tile) * width * lent_lanes(units, tile) * 2;
    if tile.lent { lent } else { 0 }
}

/// The first dimension of a lane's `v`-th vector of an operand.
#[cube]
pub(super) fn operand_start(#[comptime] v: usize, #[comptime] spread: Spread) -> usize {
    match comptime!(spread) {
        Spread::Quads => lane_start(spread) + comptime!(8 * (v / 2)),
        Spread::Halves => lane_start(spread),
        _ => comptime!(8 * v).runtime(),
    }
}

/// `R` dimensions of a row; zeros from `dim` on.
#[cube]
fn read_dims<E: Float, R: Size, P: Size>(
    source: &[Vector<E, P>],
    row: usize,
    stride: usize,
    first: usize,
    #[comptime] dim: usize,
) -> Vector<E, R> {
    let width = R::value();
    let piece = P::value();
    let zero = E::from_int(0);
    let mut read = Vector::<E, R>::new(zero);
    #[unroll]
    for p in 0..comptime!(width / piece) {
        let at = first + comptime!(p * piece);
        let exists = comptime!(dim.is_multiple_of(DEPTH)).runtime() || at < dim;
        let loaded = source[row + select(exists, at, 0) / piece * stride];
        #[unroll]
        for i in 0..piece {
            read.insert(
                comptime!(p * piece + i),
                select(exists, loaded.extract(i), zero),
            );
        }
    }
    read
}
