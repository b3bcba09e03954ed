//! Exact attention on Burn tensors, differentiable, computed by one fused kernel where there is
//! one for the device.
//!
//! Every function comes in two forms: `try_…` returns an [`AttentionError`] that names the
//! argument, what was given and what is accepted; the plain form panics with the same message.
//! Nothing has been launched when either refuses.
//!
//! Score modifications, masks and factors of probabilities as code: [`ScoreMod`], [`MaskMod`],
//! [`WeightMod`], [`variants`]; the blocks that a mask leaves: [`BlockMap`]; sequences packed without
//! padding: [`attention_packed`]. Attention over disjoint keys combines by its log-sum-exp: [`merge`],
//! [`with_sinks`]. The difference of two attentions: [`differential_attention`].
//!
//! # Attention maps
//!
//! What attention looked at, from the same inputs and the log-sum-exp of [`attention_with_lse`], by
//! kernels that do not store the map: the probabilities of chosen queries ([`attention_rows`]), what
//! each key received ([`received_attention`]), the mean of the heads on a grid ([`pooled_attention`]),
//! the entropy of each query ([`attention_entropy`]), the keys attended to most ([`top_keys`]). They
//! give no gradients.
//!
//! A caution: a map shows how values were mixed, not why the model answered as it did. Jain and
//! Wallace (Attention is not Explanation, 2019, <https://arxiv.org/abs/1902.10186>) find maps that
//! correlate little with gradients, and quite other maps that give the same answer; Wiegreffe and
//! Pinter (Attention is not not Explanation, 2019, <https://arxiv.org/abs/1908.04626>) show when such
//! a map is still evidence, and how to test it. [`gradient_times_attention`] weighs each probability
//! by what depends on it; compare the two before reading either.
//!
//! # Devices
//!
//! | device | what runs |
//! |---|---|
//! | CUDA, ROCm, Metal, Vulkan, wgpu, Burn's `cpu` | CubeCL kernels on Burn's own buffers, whatever their strides |
//! | `flex`, with feature `cpu` | the same kernels through the CubeCL CPU runtime |
//! | anything else | [`composition`] of Burn's operations |

#[cfg(feature = "cube")]
mod backend;
#[cfg(feature = "cube")]
mod block_map;
pub(crate) mod check;
mod combine;
pub mod comparison;
pub mod composition;
mod differential;
mod maps;
#[cfg(feature = "cube")]
mod modification;
mod options;
#[cfg(feature = "cube")]
mod packed;

pub use attention_core::{AttentionError, AttentionSpec, CausalAlignment};
#[cfg(feature = "cube")]
pub use attention_kernels::{
    block_map::{BLOCK_STEP, BlockShape},
    modification::{Captured, Lanes, Place},
    softmax::Engine,
    variants,
};
#[cfg(feature = "cube")]
pub use block_map::{BlockMap, Tile};
pub use combine::{Attended, merge, try_merge, try_with_sinks, with_sinks};
pub use differential::{differential_attention, try_differential_attention};
pub use maps::{
    attention_entropy, attention_rows, gradient_times_attention, pooled_attention,
    received_attention, top_keys, try_attention_entropy, try_attention_rows,
    try_gradient_times_attention, try_pooled_attention, try_received_attention, try_top_keys,
};
#[cfg(feature = "cube")]
pub use modification::{MaskMod, ScoreMod, WeightMod};
pub use options::AttentionOptions;
#[cfg(feature = "cube")]
pub use packed::{PackedSequences, attention_packed, try_attention_packed};

use burn::tensor::Tensor;

/// Exact attention: `softmax(mask(bias + softcap(scale * q k^T))) v`, without ever storing the
/// scores, forward or backward.
///
/// # Shapes
/// - `query`: `[batch, heads, seq_q, head_dim]`
/// - `key`: `[batch, kv_heads, seq_kv, head_dim]`; `kv_heads` divides `heads`, and query head `h`
///   reads key head `h / (heads / kv_heads)`
/// - `value`: `[batch, value_heads, seq_kv, value_dim]`; `value_heads` divides `kv_heads`, and key
///   head `h` goes with value head `h / (kv_heads / value_heads)`
/// - `options.mask`, `options.bias`: `[batch | 1, heads | 1, seq_q | 1, seq_kv | 1]`; `true` in the
///   mask hides the key
/// - tensors that `options.score_mod` and `options.mask_mod` captured: whatever their functions read
/// - returns `[batch, heads, seq_q, value_dim]`
///
/// `head_dim` and `value_dim` go up to 256, sequences may have any length, 0 included, and inputs
/// may have any strides: a `[batch, seq, heads, dim]` tensor seen through `swap_dims(1, 2)` is read
/// as it lies. A query that sees no key gets 0, and passes no gradient on.
///
/// # Dtypes
/// `f32`, `f16` and `bf16` where the device has them, the same for all arguments; accumulation is
/// in `f32`. Gradients reach `query`, `key`, `value`, `options.bias` and the tables that
/// `options.score_mod` looks up; second-order gradients are refused. The same inputs give the same
/// bits on one device, forward and backward.
///
/// # Panics
/// With the message of the error that [`try_attention`] returns.
///
/// # Papers
/// - Vaswani et al., Attention Is All You Need, <https://arxiv.org/abs/1706.03762>
/// - Dao et al., FlashAttention, <https://arxiv.org/abs/2205.14135>, and FlashAttention-2,
///   <https://arxiv.org/abs/2307.08691>
/// - Ainslie et al., GQA, <https://arxiv.org/abs/2305.13245>
///
/// ```
/// use attention_models::ops::{AttentionOptions, CausalAlignment, attention};
/// use burn::tensor::{Device, Distribution, Tensor};
///
/// let device = Device::flex().autodiff();
/// let random = |shape: [usize; 4]| {
///     Tensor::<4>::random(shape, Distribution::Normal(0.0, 1.0), &device).require_grad()
/// };
/// // Eight query heads share two heads of keys and values.
/// let (query, key, value) = (random([1, 8, 5, 32]), random([1, 2, 5, 32]), random([1, 2, 5, 16]));
///
/// let options = AttentionOptions::default().with_causal(CausalAlignment::BottomRight);
/// let out = attention(query.clone(), key, value, options);
/// assert_eq!(out.dims(), [1, 8, 5, 16]);
///
/// let gradients = out.sum().backward();
/// assert_eq!(query.grad(&gradients).unwrap().dims(), [1, 8, 5, 32]);
/// ```
pub fn attention(
    query: Tensor<4>,
    key: Tensor<4>,
    value: Tensor<4>,
    options: AttentionOptions,
) -> Tensor<4> {
    accept(try_attention(query, key, value, options))
}

/// [`attention`], refusing bad input with a typed error.
///
/// # Errors
/// - [`AttentionError::Shape`]: an empty batch, head dimensions that differ or exceed 256, heads
///   that `kv_heads` does not divide, key heads that `value_heads` does not divide, sequence lengths of key and value that differ, a mask or bias
///   that does not broadcast
/// - [`AttentionError::DType`]: a dtype that the device does not have, or that differs from the
///   query's
/// - [`AttentionError::Device`]: a tensor on another device than the query
/// - [`AttentionError::Value`]: a scale that is not finite, a softcap that is not positive, code on a
///   device that has no kernels, a mask as code beside a block map, more buffers than the device binds,
///   an engine that it does not have
///
/// ```
/// use attention_models::ops::{AttentionOptions, try_attention};
/// use burn::tensor::{Device, Tensor};
///
/// let zeros = |heads| Tensor::<4>::zeros([1, heads, 4, 64], &Device::flex());
/// let refusal = try_attention(zeros(8), zeros(3), zeros(3), AttentionOptions::default());
/// assert_eq!(
///     refusal.unwrap_err().to_string(),
///     "`key` has shape [1, 3, 4, 64]; accepted: a number of heads that divides the query's 8",
/// );
/// ```
pub fn try_attention(
    query: Tensor<4>,
    key: Tensor<4>,
    value: Tensor<4>,
    options: AttentionOptions,
) -> Result<Tensor<4>, AttentionError> {
    if comparison::is_asked_for() {
        return comparison::burn_attention(query, key, value, options);
    }
    try_attention_with_lse(query, key, value, options).map(|(out, _)| out)
}

/// [`attention`], and the log-sum-exp of every row of scores: `ln(sum_j exp(score_ij))`.
///
/// The second result is `f32` of shape `[batch, heads, seq_q]`, `-inf` where a query sees no key.
/// It is differentiable too. Two attentions over disjoint keys combine into the attention over all
/// of them by their log-sum-exps.
///
/// # Panics
/// With the message of the error that [`try_attention_with_lse`] returns.
///
/// ```
/// use attention_models::ops::{AttentionOptions, attention_with_lse};
/// use burn::tensor::{Device, Tensor};
///
/// let device = Device::flex();
/// let query = Tensor::<4>::zeros([1, 1, 1, 8], &device);
/// let key = Tensor::<4>::zeros([1, 1, 10, 8], &device);
/// let (_, lse) = attention_with_lse(query, key.clone(), key, AttentionOptions::default());
/// assert!((lse.into_scalar::<f32>() - 10f32.ln()).abs() < 1e-6);
/// ```
pub fn attention_with_lse(
    query: Tensor<4>,
    key: Tensor<4>,
    value: Tensor<4>,
    options: AttentionOptions,
) -> (Tensor<4>, Tensor<3>) {
    accept(try_attention_with_lse(query, key, value, options))
}

/// [`attention_with_lse`], refusing bad input with a typed error.
///
/// # Errors
/// Those of [`try_attention`].
///
/// ```
/// use attention_models::ops::{AttentionOptions, try_attention_with_lse};
/// use burn::tensor::{Device, Tensor};
///
/// let query = Tensor::<4>::zeros([2, 4, 3, 16], &Device::flex());
/// let (out, lse) = try_attention_with_lse(
///     query.clone(),
///     query.clone(),
///     query,
///     AttentionOptions::default().with_scale(1.0),
/// )?;
/// assert_eq!((out.dims(), lse.dims()), ([2, 4, 3, 16], [2, 4, 3]));
/// # Ok::<(), attention_models::ops::AttentionError>(())
/// ```
pub fn try_attention_with_lse(
    query: Tensor<4>,
    key: Tensor<4>,
    value: Tensor<4>,
    options: AttentionOptions,
) -> Result<(Tensor<4>, Tensor<3>), AttentionError> {
    let problem = check::check(&query, &key, &value, &options)?;
    #[cfg(feature = "cube")]
    if backend::has_kernels(&query.device()) {
        return Ok(backend::attention(query, key, value, options));
    }
    composition::refuse_code(&options)?;
    Ok(composition::compose_in_f32(
        query, key, value, options, &problem,
    ))
}

/// The plain form of a `try_` function.
pub(crate) fn accept<T>(result: Result<T, AttentionError>) -> T {
    result.unwrap_or_else(|error| panic!("{error}"))
}
