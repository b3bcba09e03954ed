//! What attention looked at, by the same kernels, without storing `[seq_q, seq_kv]`.

pub(super) mod call;
mod composed;
mod gradient;
mod map;

pub use gradient::{gradient_times_attention, try_gradient_times_attention};
pub(super) use map::Map;

use attention_core::AttentionError;
use burn::tensor::{Int, Tensor};

use super::{AttentionOptions, accept};
use call::{Call, Shown};

/// The probabilities of chosen queries, `softmax(scores)`, of which only these rows exist.
///
/// # Shapes
/// - `query`, `key`, `options`: as [`attention`](super::attention) takes them
/// - `lse`: `[batch, heads, seq_q]`, as [`attention_with_lse`](super::attention_with_lse) returned it
/// - `rows`: positions of queries, in any order; a position may repeat
/// - returns `[batch, heads, rows, seq_kv]` in `f32`, without autodiff: it passes no gradient on
///
/// A probability is `exp(score - lse)`: it carries the rounding of `lse`, and a row sums to 1 as nearly as
/// that allows, or is 0 where the query sees no key. With the log-sum-exp of
/// [`with_sinks`](super::with_sinks) or [`merge`](super::merge), the rest is what the sinks, or the
/// other keys, took.
///
/// Where much attention goes need not be what the output depends on: see the
/// [caution](super#attention-maps).
///
/// # Panics
/// With the message of the error that [`try_attention_rows`] returns.
///
/// ```
/// use attention_models::ops::{AttentionOptions, attention_rows, attention_with_lse};
/// use burn::tensor::{Device, Tensor};
///
/// // A query that matches the second key three times as well as the first.
/// let device = Device::flex();
/// let query = Tensor::<4>::ones([1, 1, 1, 1], &device);
/// let key = Tensor::<4>::from_data([[[[0.0], [3f32.ln()]]]], &device);
/// let options = AttentionOptions::default();
/// let (_, lse) = attention_with_lse(query.clone(), key.clone(), key.clone(), options.clone());
/// let row = attention_rows(query, key, lse, &[0], options).into_data().to_vec::<f32>().unwrap();
/// assert!((row[0] - 0.25).abs() < 1e-6 && (row[1] - 0.75).abs() < 1e-6);
/// ```
pub fn attention_rows(
    query: Tensor<4>,
    key: Tensor<4>,
    lse: Tensor<3>,
    rows: &[usize],
    options: AttentionOptions,
) -> Tensor<4> {
    accept(try_attention_rows(query, key, lse, rows, options))
}

/// [`attention_rows`], refusing bad input with a typed error.
///
/// # Errors
/// Those of [`try_attention`](super::try_attention), and
/// - [`AttentionError::Shape`], [`AttentionError::DType`], [`AttentionError::Device`]: an `lse` that is
///   not `[batch, heads, seq_q]` in `f32` on the query's device
/// - [`AttentionError::Value`]: a row beyond the last query
///
/// ```
/// use attention_models::ops::{AttentionOptions, try_attention_rows};
/// use burn::tensor::{Device, Tensor};
///
/// let x = Tensor::<4>::zeros([1, 2, 5, 8], &Device::flex());
/// let lse = Tensor::<3>::zeros([1, 2, 5], &Device::flex());
/// let refusal = try_attention_rows(x.clone(), x, lse, &[1, 7], AttentionOptions::default());
/// assert_eq!(
///     refusal.unwrap_err().to_string(),
///     "`rows` is 7; accepted: positions below 5, the number of queries",
/// );
/// ```
pub fn try_attention_rows(
    query: Tensor<4>,
    key: Tensor<4>,
    lse: Tensor<3>,
    rows: &[usize],
    options: AttentionOptions,
) -> Result<Tensor<4>, AttentionError> {
    let (values, _) = show(query, key, lse, options, Map::Rows(rows.to_vec()))?;
    Ok(values)
}

/// How much attention each key receives: its probabilities summed over the queries.
///
/// Returns `[batch, heads, seq_kv]` in `f32`, without autodiff. The numbers of a head sum to the number
/// of queries that see a key. The other shapes are those of [`attention_rows`]; the
/// [caution](super#attention-maps) holds here too.
///
/// # Panics
/// With the message of the error that [`try_received_attention`] returns.
///
/// ```
/// use attention_models::ops::{AttentionOptions, attention_with_lse, received_attention};
/// use burn::tensor::{Device, Tensor};
///
/// let x = Tensor::<4>::zeros([1, 1, 4, 8], &Device::flex());
/// let options = AttentionOptions::default();
/// let (_, lse) = attention_with_lse(x.clone(), x.clone(), x.clone(), options.clone());
/// let received = received_attention(x.clone(), x, lse, options);
/// assert_eq!(received.into_data().to_vec::<f32>().unwrap(), [1.0; 4]);
/// ```
pub fn received_attention(
    query: Tensor<4>,
    key: Tensor<4>,
    lse: Tensor<3>,
    options: AttentionOptions,
) -> Tensor<3> {
    accept(try_received_attention(query, key, lse, options))
}

/// [`received_attention`], refusing bad input with a typed error.
///
/// # Errors
/// Those of [`try_attention_rows`], but for its rows.
pub fn try_received_attention(
    query: Tensor<4>,
    key: Tensor<4>,
    lse: Tensor<3>,
    options: AttentionOptions,
) -> Result<Tensor<3>, AttentionError> {
    let (values, _) = show(query, key, lse, options, Map::Received)?;
    Ok(values.squeeze_dim::<3>(0))
}

/// The map averaged over the heads and pooled to a grid of `[queries, keys]`.
///
/// Returns `[batch, grid[0], grid[1]]` in `f32`, without autodiff. A cell is the mean over heads and
/// over its queries of the sum over its keys, so that a row of the grid whose queries all see a key
/// sums to 1. `n` positions fall into `g` cells in their order; the first `n % g` cells have one
/// position more than the others. A grid as large as the sequences is the map itself, averaged over
/// the heads.
///
/// The other shapes are those of [`attention_rows`]; the [caution](super#attention-maps) holds here
/// too, and an average hides what single heads do.
///
/// # Panics
/// With the message of the error that [`try_pooled_attention`] returns.
///
/// ```
/// use attention_models::ops::{AttentionOptions, attention_with_lse, pooled_attention};
/// use burn::tensor::{Device, Tensor};
///
/// let x = Tensor::<4>::zeros([1, 2, 8, 4], &Device::flex());
/// let options = AttentionOptions::default();
/// let (_, lse) = attention_with_lse(x.clone(), x.clone(), x.clone(), options.clone());
/// let pooled = pooled_attention(x.clone(), x, lse, [1, 2], options);
/// assert_eq!(pooled.into_data().to_vec::<f32>().unwrap(), [0.5; 2]);
/// ```
pub fn pooled_attention(
    query: Tensor<4>,
    key: Tensor<4>,
    lse: Tensor<3>,
    grid: [usize; 2],
    options: AttentionOptions,
) -> Tensor<3> {
    accept(try_pooled_attention(query, key, lse, grid, options))
}

/// [`pooled_attention`], refusing bad input with a typed error.
///
/// # Errors
/// Those of [`try_attention_rows`], but for its rows, and [`AttentionError::Value`] for a grid of 0 or
/// of more cells than there are positions.
pub fn try_pooled_attention(
    query: Tensor<4>,
    key: Tensor<4>,
    lse: Tensor<3>,
    grid: [usize; 2],
    options: AttentionOptions,
) -> Result<Tensor<3>, AttentionError> {
    let (values, _) = show(query, key, lse, options, Map::Pooled(grid))?;
    Ok(values.squeeze_dim::<3>(0))
}

/// How widely each query spreads its attention: the entropy of its probabilities in nats,
/// `-sum of p ln p` with `0 ln 0 = 0`.
///
/// Returns `[batch, heads, seq_q]` in `f32`, without autodiff: 0 for a query that sees one key or
/// none, `ln n` for one that sees `n` keys alike. The other shapes are those of [`attention_rows`].
///
/// # Panics
/// With the message of the error that [`try_attention_entropy`] returns.
///
/// ```
/// use attention_models::ops::{AttentionOptions, attention_entropy, attention_with_lse};
/// use burn::tensor::{Device, Tensor};
///
/// let x = Tensor::<4>::zeros([1, 1, 4, 8], &Device::flex());
/// let options = AttentionOptions::default();
/// let (_, lse) = attention_with_lse(x.clone(), x.clone(), x.clone(), options.clone());
/// let entropy = attention_entropy(x.clone(), x, lse, options).into_data().to_vec::<f32>().unwrap();
/// assert!(entropy.iter().all(|entropy| (entropy - 4f32.ln()).abs() < 1e-6));
/// ```
pub fn attention_entropy(
    query: Tensor<4>,
    key: Tensor<4>,
    lse: Tensor<3>,
    options: AttentionOptions,
) -> Tensor<3> {
    accept(try_attention_entropy(query, key, lse, options))
}

/// [`attention_entropy`], refusing bad input with a typed error.
///
/// # Errors
/// Those of [`try_attention_rows`], but for its rows.
pub fn try_attention_entropy(
    query: Tensor<4>,
    key: Tensor<4>,
    lse: Tensor<3>,
    options: AttentionOptions,
) -> Result<Tensor<3>, AttentionError> {
    let (values, _) = show(query, key, lse, options, Map::Entropy)?;
    Ok(values.squeeze_dim::<3>(0))
}

/// The `k` keys of largest probability of each query: probabilities in `f32` and positions in `i32`,
/// both `[batch, heads, seq_q, k]`, largest first, among equals the key of lower position first.
///
/// Where a query sees fewer than `k` keys, its list ends with keys that it does not see, of
/// probability 0, in the order of their positions: every position may be used as an index, and none
/// appears twice. A small `k` costs little; the time grows with `k` for each key that enters a list.
///
/// The other shapes are those of [`attention_rows`]; the [caution](super#attention-maps) holds here
/// too. On a device without kernels of ours, equal probabilities come in the order of Burn's sort.
///
/// # Panics
/// With the message of the error that [`try_top_keys`] returns.
///
/// ```
/// use attention_models::ops::{AttentionOptions, attention_with_lse, top_keys};
/// use burn::tensor::{Device, Tensor};
///
/// let device = Device::flex();
/// let query = Tensor::<4>::ones([1, 1, 1, 1], &device);
/// let key = Tensor::<4>::from_data([[[[0.0], [2.0], [1.0]]]], &device);
/// let options = AttentionOptions::default();
/// let (_, lse) = attention_with_lse(query.clone(), key.clone(), key.clone(), options.clone());
/// let (_, keys) = top_keys(query, key, lse, 2, options);
/// assert_eq!(keys.into_data().to_vec::<i32>().unwrap(), [1, 2]);
/// ```
pub fn top_keys(
    query: Tensor<4>,
    key: Tensor<4>,
    lse: Tensor<3>,
    k: usize,
    options: AttentionOptions,
) -> (Tensor<4>, Tensor<4, Int>) {
    accept(try_top_keys(query, key, lse, k, options))
}

/// [`top_keys`], refusing bad input with a typed error.
///
/// # Errors
/// Those of [`try_attention_rows`], but for its rows, and [`AttentionError::Value`] for a `k` of 0 or of
/// more than there are keys.
pub fn try_top_keys(
    query: Tensor<4>,
    key: Tensor<4>,
    lse: Tensor<3>,
    k: usize,
    options: AttentionOptions,
) -> Result<(Tensor<4>, Tensor<4, Int>), AttentionError> {
    let (values, keys) = show(query, key, lse, options, Map::TopKeys(k))?;
    Ok((values, keys.expect("invariant: this map lists keys")))
}

fn show(
    query: Tensor<4>,
    key: Tensor<4>,
    lse: Tensor<3>,
    options: AttentionOptions,
    map: Map,
) -> Result<Shown, AttentionError> {
    let call = Call {
        query,
        key,
        lse,
        options,
        gradient: None,
    };
    call.show(map)
}
