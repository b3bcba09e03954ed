//! BigBird's block pattern.

use cubecl::prelude::*;

use super::distance;
use crate::modification::{Captured, Lanes, Mask, Place};

/// Blocks of `block` tokens: the first and the last see and are seen by all, the others see
/// themselves, their neighbours, and `per_block` blocks that are given.
///
/// `given` is `[heads, blocks - 2, per_block]`: for the blocks between the first and the last of
/// each head, the blocks that they see besides. `seq` is the length of the sequence, whose last
/// block may be short (Zaheer et al. 2020, <https://arxiv.org/abs/2007.14062>).
pub fn big_bird<F, I>(block: u32, seq: u32, per_block: u32, given: I) -> Mask<F, I> {
    let block = block.max(1);
    Mask::new(blocks::expand)
        .with_count(block)
        .with_count(seq.div_ceil(block).max(1) - 1)
        .with_count(per_block)
        .with_integers(given)
}

#[cube]
fn blocks(at: &Place, captured: &Captured) -> Vector<bool, Lanes> {
    let size = Vector::new(captured.count(0usize));
    let last_block = captured.count(1usize);
    let per_block = captured.count(2usize);
    let first = Vector::<u32, Lanes>::new(0u32);
    let last = Vector::<u32, Lanes>::new(last_block);
    let query = at.query / size;
    let key = at.key / size;
    let edge = query
        .equal(&first)
        .or(query.equal(&last))
        .or(key.equal(&first))
        .or(key.equal(&last));
    let near = distance(query, key).less_equal(&Vector::new(1u32));

    let inner = max(last, Vector::new(1u32)) - Vector::new(1u32);
    let row = Vector::new(at.head) * inner + (max(query, Vector::new(1u32)) - Vector::new(1u32));
    // Counted, for a flag does not survive a loop on every runtime.
    let mut found = Vector::<u32, Lanes>::new(0u32);
    for n in 0..per_block {
        let given = captured.integers(0usize, row * Vector::new(per_block) + Vector::new(n));
        found += select_many(
            given.equal(&key),
            Vector::<u32, Lanes>::new(1u32),
            Vector::<u32, Lanes>::new(0u32),
        );
    }
    edge.or(near).or(found.greater_than(&first))
}
