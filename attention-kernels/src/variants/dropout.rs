//! Dropout of probabilities (Srivastava et al. 2014, <https://jmlr.org/papers/v15/srivastava14a.html>).
//!
//! Which probabilities are dropped is a function of the seed and of the place alone, computed by
//! Philox4x32-7 (Salmon et al. 2011, Parallel Random Numbers: As Easy as 1, 2, 3): the backward asks
//! again, and every runtime and every tile size drop the same.

use attention_core::AttentionError;
use cubecl::prelude::*;

use crate::modification::{Captured, Lanes, Place, WeightMod};

/// Rounds of Philox: the fewest that pass its authors' tests, as FlashAttention has it.
const ROUNDS: usize = 7;
const MULTIPLIERS: [u32; 2] = [0xD251_1F53, 0xCD9E_8D57];
const KEY_STEPS: [u32; 2] = [0x9E37_79B9, 0xBB67_AE85];

/// Probabilities are 0 with `probability`, from 0 to less than 1, and `1 / (1 - probability)` times as
/// large otherwise. One is dropped if the first word that Philox gives for the key `seed` and the
/// counter `(query, key, head, batch)` is less than `probability * 2^32`.
///
/// # Errors
/// [`AttentionError::Value`] for a probability outside `[0, 1)`.
///
/// ```
/// use attention_kernels::{modification::WeightMod, variants};
///
/// let dropout: WeightMod<()> = variants::dropout(0.1, 42)?;
/// assert_eq!(
///     variants::dropout::<(), ()>(1.0, 42).unwrap_err().to_string(),
///     "`probability` is 1; accepted: from 0 to less than 1",
/// );
/// # Ok::<(), attention_core::AttentionError>(())
/// ```
pub fn dropout<F, I>(probability: f64, seed: u64) -> Result<WeightMod<F, I>, AttentionError> {
    let scale = scale(probability)?;
    let factor = WeightMod::new(of_counts::expand).with_number(scale);
    Ok(factor
        .with_count(least_kept(probability))
        .with_count(seed as u32)
        .with_count((seed >> 32) as u32))
}

/// [`dropout`] with a seed on the device: the first two elements of `seed` are its lower and its upper
/// half.
///
/// # Errors
/// As [`dropout`].
pub fn dropout_seeded_by<F, I>(
    probability: f64,
    seed: I,
) -> Result<WeightMod<F, I>, AttentionError> {
    let scale = scale(probability)?;
    let factor = WeightMod::new(of_tensor::expand).with_number(scale);
    Ok(factor
        .with_count(least_kept(probability))
        .with_integers(seed))
}

/// The least word of the generator that keeps a probability.
fn least_kept(probability: f64) -> u32 {
    (probability * (1u64 << 32) as f64).round() as u32
}

/// What kept probabilities are multiplied by.
fn scale(probability: f64) -> Result<f32, AttentionError> {
    if (0.0..1.0).contains(&probability) {
        return Ok((1.0 / (1.0 - probability)) as f32);
    }
    Err(AttentionError::Value {
        argument: "probability",
        given: probability.to_string(),
        accepted: "from 0 to less than 1".into(),
    })
}

/// Probabilities that `keep` has a 0 for are dropped, the others `1 / (1 - probability)` times as large.
/// `keep` is `[batch, heads, seq_q, seq_kv]` of the attention, flattened, and `shape` that shape.
///
/// # Errors
/// As [`dropout`].
pub fn given_dropout<F, I>(
    probability: f64,
    keep: I,
    shape: [u32; 4],
) -> Result<WeightMod<F, I>, AttentionError> {
    let [_, heads, seq_q, seq_kv] = shape;
    let factor = WeightMod::new(of_mask::expand).with_number(scale(probability)?);
    Ok(factor
        .with_integers(keep)
        .with_count(heads)
        .with_count(seq_q)
        .with_count(seq_kv))
}

#[cube]
fn of_counts(at: &Place, captured: &Captured) -> Vector<f32, Lanes> {
    let seed = (captured.count(1usize), captured.count(2usize));
    kept(at, captured, seed.0, seed.1)
}

#[cube]
fn of_tensor(at: &Place, captured: &Captured) -> Vector<f32, Lanes> {
    let seed = (
        captured.integer(0usize, 0u32),
        captured.integer(0usize, 1u32),
    );
    kept(at, captured, seed.0, seed.1)
}

#[cube]
fn kept(at: &Place, captured: &Captured, seed_low: u32, seed_high: u32) -> Vector<f32, Lanes> {
    let word = philox(
        at.query,
        at.key,
        Vector::new(at.head),
        Vector::new(at.batch),
        seed_low,
        seed_high,
    );
    let kept = word.greater_equal(&Vector::new(captured.count(0usize)));
    select_many(
        kept,
        Vector::new(captured.number(0usize)),
        Vector::new(0.0f32),
    )
}

#[cube]
fn of_mask(at: &Place, captured: &Captured) -> Vector<f32, Lanes> {
    let first = (at.batch * captured.count(0usize) + at.head) * captured.count(1usize);
    let row = (Vector::new(first) + at.query) * Vector::new(captured.count(2usize));
    let kept = captured
        .integers(0usize, row + at.key)
        .not_equal(&Vector::new(0u32));
    select_many(
        kept,
        Vector::new(captured.number(0usize)),
        Vector::new(0.0f32),
    )
}

/// The first word of Philox4x32.
#[cube]
fn philox(
    c0: Vector<u32, Lanes>,
    c1: Vector<u32, Lanes>,
    c2: Vector<u32, Lanes>,
    c3: Vector<u32, Lanes>,
    key_low: u32,
    key_high: u32,
) -> Vector<u32, Lanes> {
    let mut low = key_low;
    let mut high = key_high;
    let (mut a, mut b, mut c, mut d) = (c0, c1, c2, c3);
    #[unroll]
    for round in 0..ROUNDS {
        let first = Vector::new(MULTIPLIERS[0]);
        let second = Vector::new(MULTIPLIERS[1]);
        let (from_a, from_c) = (a.mul_hi(first), c.mul_hi(second));
        let (low_a, low_c) = (a * first, c * second);
        a = from_c ^ b ^ Vector::new(low);
        b = low_c;
        c = from_a ^ d ^ Vector::new(high);
        d = low_a;
        if comptime!(round + 1 < ROUNDS) {
            low += KEY_STEPS[0];
            high += KEY_STEPS[1];
        }
    }
    a
}
