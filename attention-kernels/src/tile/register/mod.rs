//! The `register` engine: it needs no matrix unit and no plane, and shared memory only where a forward has fewer rows
//! than lanes, which then share them ([`Spread::Split`]).
//!
//! A lane owns a row. Rows (queries in the forward, keys in the key backward) lie across SIMD
//! lanes: across the units of a cube on a GPU, where `N` is 1, and across the lanes of a vector
//! register on a CPU, where a unit is a core and `N` is the register's width. What a row meets (a
//! key, a value) has the same address for every lane, so that it is one broadcast load. Reductions
//! along a row are then plain arithmetic between registers: no shuffle, no barrier.
//!
//! `rows[chunk * groups + g]` is a row vector: a chunk of `W` dimensions of the row of group `g`
//! where a lane is a unit, and one dimension of `N` rows where the lanes are a vector register's.
//! Either `N` or `W` is 1, and `R` is their product.

use cubecl::prelude::*;

use super::{Spread, first_chunk};

mod aside;
mod rows;
mod scores;
mod sums;
mod unpack;

pub(crate) use aside::Aside;
pub(crate) use rows::{load_rows, store_rows};
pub(crate) use scores::block_products;
pub(crate) use sums::accumulate;
use unpack::unpacked;

/// Products along a row are summed over this many chunks before they join the total: an error
/// grows with the root of the length of its chain of roundings, and that of a score, which may be
/// in the hundreds, counts as it is in its exponential.
const CHUNK_CHAIN: usize = 8;

/// The same for rows of so many chunks: as short a way to their total, with half as many additions to it.
const LONG_ROW: usize = 128;
const LONG_ROW_CHAIN: usize = 16;

/// The same along the tokens, whose weights are at most 1.
const TOKEN_CHAIN: usize = 32;

/// Dimensions of a turn of a core's innermost loop.
const DIMS_PER_TURN: usize = 4;

/// How many rows and tokens one step multiplies. Chosen by `plan.rs`, compiled into the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RowTile {
    /// Rows per lane.
    pub groups: usize,
    /// Tokens per register tile of the first product.
    pub tokens: usize,
    /// Tokens per softmax step: a multiple of `tokens`.
    pub block: usize,
    /// Dimensions per register tile of the second product.
    pub dims: usize,
    /// Compile every index to a constant, so that rows and accumulators live in registers.
    pub unroll: bool,
    /// Rows pass through an array in memory on their way in and out, so that a single load and a
    /// single store are compiled, instead of one for each chunk.
    pub staged: bool,
    /// A step's tokens are converted to f32 before they are multiplied, once for all rows: a core
    /// converts a vector of elements as fast as one.
    pub unpacks: bool,
    /// Tensors of 16 bits are read as copies of f32.
    pub widened: bool,
    /// Rows that are an operand lie in shared memory, for registers would not suffice.
    pub lent: bool,
    /// How rows and tokens are spread over lanes.
    pub spread: Spread,
    /// Numbers of 16 bits whose sum is an element of an operand: 1, or 3 where elements are of f32.
    pub terms: usize,
}

/// Of so many chunks of a row, those whose products are summed before they join the total.
pub(crate) fn chunk_chain(chunks: usize) -> usize {
    if chunks < LONG_ROW {
        CHUNK_CHAIN
    } else {
        LONG_ROW_CHAIN
    }
}

/// Strides of a tensor, in vectors of the width that it is read with.
#[derive(CubeType, CubeLaunch, Clone, Copy)]
#[expand(derive(Clone))]
pub(crate) struct Layout {
    pub batch: usize,
    pub head: usize,
    pub seq: usize,
    pub dim: usize,
}

/// The layout with its last stride known to be 1 at compile time, where it is: neighbours along a
/// row are then one address apart, which the compiler folds into the load.
#[cube]
pub(crate) fn packed(layout: &Layout, #[comptime] packed: bool) -> Layout {
    let dim = if comptime!(packed) {
        1usize.runtime()
    } else {
        layout.dim
    };
    Layout {
        batch: layout.batch,
        head: layout.head,
        seq: layout.seq,
        dim,
    }
}

/// What the stream has for all lanes alike, beside a row vector.
#[cube]
fn beside_row<E: Float, N: Size, R: Size, W: Size>(loaded: Vector<E, W>) -> Vector<f32, R> {
    let lanes = N::value();
    if comptime!(lanes == 1) {
        Vector::cast_from(loaded)
    } else {
        Vector::new(f32::cast_from(loaded.extract(0usize)))
    }
}

/// A number per lane, beside a row vector.
#[cube]
fn per_lane<N: Size, R: Size>(values: Vector<f32, N>) -> Vector<f32, R> {
    let lanes = N::value();
    if comptime!(lanes == 1) {
        Vector::new(values.extract(0usize))
    } else {
        Vector::cast_from(values)
    }
}

/// The sum over the dimensions of a row vector, per lane.
#[cube]
fn sum_per_lane<N: Size, R: Size>(sums: Vector<f32, R>) -> Vector<f32, N> {
    let lanes = N::value();
    if comptime!(lanes == 1) {
        let width = R::value();
        let mut sum = sums.extract(0usize);
        #[unroll]
        for i in 1..width {
            sum += sums.extract(i);
        }
        Vector::new(sum)
    } else {
        Vector::cast_from(sums)
    }
}

/// A register array of one value.
#[cube]
pub(crate) fn filled<N: Size>(
    #[comptime] value: f32,
    #[comptime] length: usize,
    #[comptime] unroll: bool,
) -> Array<Vector<f32, N>> {
    let mut array = Array::<Vector<f32, N>>::new(length);
    #[unroll(unroll)]
    for i in 0..length {
        array[i] = Vector::new(f32::new(value));
    }
    array
}

/// The side that every lane reads alike: the tokens of one head, as a strided matrix.
#[derive(CubeType, Clone, Copy)]
#[expand(derive(Clone))]
pub(crate) struct Stream {
    /// Where token 0 begins.
    pub origin: usize,
    /// From a token to the next.
    pub token_stride: usize,
    /// From a chunk of a token to the next.
    pub dim_stride: usize,
    /// The last token that exists: reads beyond it repeat it, and their results are discarded.
    pub last: usize,
}

#[cube]
impl Stream {
    /// The tokens of one head of a tensor.
    pub fn of(layout: &Layout, batch: usize, head: usize, last: usize) -> Stream {
        Stream {
            origin: batch * layout.batch + head * layout.head,
            token_stride: layout.seq,
            dim_stride: layout.dim,
            last,
        }
    }

    /// The dimensions of each token that this lane has.
    pub fn of_lane(&self, #[comptime] tile: RowTile) -> Stream {
        Stream {
            origin: self.origin + first_chunk(tile) * self.dim_stride,
            token_stride: self.token_stride,
            dim_stride: self.dim_stride * comptime!(tile.spread.columns()),
            last: self.last,
        }
    }

    /// The same stream for a second product with the same tokens. A compiler that sees the same
    /// addresses twice keeps what it loaded in registers, and rows spill: `zero` hides that they are
    /// the same, and the second load finds them in the cache.
    pub fn again(&self, zero: usize) -> Stream {
        Stream {
            origin: self.origin + zero,
            token_stride: self.token_stride,
            dim_stride: self.dim_stride,
            last: self.last,
        }
    }
}
