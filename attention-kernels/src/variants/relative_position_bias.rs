//! T5's relative position bias (Raffel et al. 2019, <https://arxiv.org/abs/1910.10683>).

use cubecl::prelude::*;

use super::distance;
use crate::modification::{Captured, Lanes, Place, ScoreMod};

/// `score + table[head, bucket(j - i - offset)]`.
///
/// `table` is `[heads, buckets]` and receives a gradient. `buckets` has the bucket of each distance from 0 on, as
/// [`relative_position_buckets`] gives it; larger distances fall into the last of them.
/// Bidirectional, keys after the query take the upper half of the table. T5 itself does not scale
/// its products: set the scale to 1.
pub fn relative_position_bias<F, I>(
    table: F,
    buckets: I,
    count: u32,
    bidirectional: bool,
    offset: u32,
) -> ScoreMod<F, I> {
    ScoreMod::lookup(table, count, bucket::expand)
        .with_integers(buckets)
        .with_count(if bidirectional { count / 2 } else { 0 })
        .with_count(offset)
}

#[cube]
fn bucket(at: &Place, captured: &Captured) -> Vector<u32, Lanes> {
    let position = at.query + Vector::new(captured.count(1usize));
    let later = at.key.greater_than(&position);
    let none = Vector::<u32, Lanes>::new(0u32);
    let upper = select_many(later, Vector::new(captured.count(0usize)), none);
    // One direction only: what comes later is as near as the query itself.
    let one_sided = select(captured.count(0usize) == 0, 0u32, 1u32);
    let distance = distance(position, at.key);
    let distance = select_many(later, distance * Vector::new(one_sided), distance);
    captured.integers(0usize, distance) + upper
}

/// The bucket of each distance from 0 to `max_distance`: small distances have one each, larger ones
/// share them logarithmically.
///
/// ```
/// use attention_kernels::variants::relative_position_buckets;
///
/// let buckets = relative_position_buckets(8, 16, true);
/// assert_eq!(buckets[..6], [0, 1, 2, 2, 2, 2]);
/// assert_eq!(buckets[16], 3);
/// ```
pub fn relative_position_buckets(buckets: u32, max_distance: u32, bidirectional: bool) -> Vec<i32> {
    let buckets = if bidirectional { buckets / 2 } else { buckets };
    let exact = (buckets / 2).max(1);
    let bucket = |distance: u32| {
        if distance < exact {
            return distance;
        }
        // In f32, as the checkpoints were trained.
        let octaves = (distance as f32 / exact as f32).ln();
        let range = (f64::from(max_distance) / f64::from(exact)).ln() as f32;
        let shared = octaves / range * (buckets - exact) as f32;
        (exact + shared as u32).min(buckets.max(1) - 1)
    };
    (0..=max_distance)
        .map(|distance| bucket(distance) as i32)
        .collect()
}
