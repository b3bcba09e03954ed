//! Tokens of 16 bits as f32, in memory of a core's own.

use cubecl::prelude::*;

use super::{RowTile, Stream};

/// The tokens of a step from `token` on, converted, and where they lie: token 0 is the first of them.
///
/// They are to be read one by one; the array's elements are wide because a compiler initialises an
/// array element by element, and thousands of elements would cost it seconds.
#[cube]
pub(super) fn unpacked<E: Float, N: Size, W: Size>(
    source: &[Vector<E, W>],
    stream: &Stream,
    token: usize,
    #[comptime] dim: usize,
    #[comptime] tile: RowTile,
) -> (Array<Vector<f32, N>>, Stream) {
    let width = W::value();
    let lanes = N::value();
    let chunks = comptime!(dim / width);
    let block = comptime!(tile.block);
    let mut tokens = Array::<Vector<f32, N>>::new(comptime!((block * dim).div_ceil(lanes).max(1)));
    let elements = tokens.with_vector_size_mut::<W>();
    for t in 0..block {
        let start = stream.origin + min(token + t, stream.last) * stream.token_stride;
        for chunk in 0..chunks {
            let loaded = source[start + chunk * stream.dim_stride];
            elements[t * chunks + chunk] = Vector::cast_from(loaded);
        }
    }
    let stream = Stream {
        origin: 0usize.runtime(),
        token_stride: chunks.runtime(),
        dim_stride: 1usize.runtime(),
        last: comptime!(block - 1).runtime(),
    };
    (tokens, stream)
}
