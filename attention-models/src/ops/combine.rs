//! Attention over disjoint keys combines exactly by its log-sum-exps.

use attention_core::AttentionError;
use burn::tensor::{DType, Tensor};

use super::{
    accept,
    check::{check_device, check_shape},
};

/// An output `[batch, heads, seq_q, value_dim]` and its log-sum-exp `[batch, heads, seq_q]`, as
/// [`attention_with_lse`](super::attention_with_lse) gives them.
pub type Attended = (Tensor<4>, Tensor<3>);

/// The attention over the keys of both, which must be disjoint: split keys, local and global keys,
/// the steps of a ring.
///
/// ```text
/// lse = ln(exp(lse_a) + exp(lse_b)),    out = exp(lse_a - lse) out_a + exp(lse_b - lse) out_b
/// ```
///
/// Differentiable in all four. A query that sees no key in either has output 0 and log-sum-exp
/// `-inf`. The result has the dtype of `a`'s output; the sums are in `f32`.
///
/// # Panics
/// With the message of the error that [`try_merge`] returns.
///
/// # Papers
/// - Rabe and Staats 2021, <https://arxiv.org/abs/2112.05682>
/// - Liu et al., Ring Attention, <https://arxiv.org/abs/2310.01889>
///
/// ```
/// use attention_models::ops::{AttentionOptions, attention, attention_with_lse, merge};
/// use burn::tensor::{Device, Distribution, Tensor, Tolerance};
///
/// let random = |seq| {
///     Tensor::<4>::random([1, 2, seq, 8], Distribution::Default, &Device::flex())
/// };
/// let (query, key, value) = (random(3), random(10), random(10));
/// let of_keys = |keys: std::ops::Range<usize>| {
///     let part = |tensor: &Tensor<4>| tensor.clone().slice([0..1, 0..2, keys.clone(), 0..8]);
///     attention_with_lse(query.clone(), part(&key), part(&value), AttentionOptions::default())
/// };
/// let (out, _) = merge(of_keys(0..4), of_keys(4..10));
/// let whole = attention(query.clone(), key.clone(), value.clone(), AttentionOptions::default());
/// out.into_data()
///     .assert_approx_eq::<f32>(&whole.into_data(), Tolerance::absolute(1e-6));
/// ```
pub fn merge(a: Attended, b: Attended) -> Attended {
    accept(try_merge(a, b))
}

/// [`merge`], refusing bad input with a typed error.
///
/// # Errors
/// - [`AttentionError::Shape`]: outputs that differ in shape, a log-sum-exp that is not its
///   output's
/// - [`AttentionError::Device`]: tensors on different devices
///
/// ```
/// use attention_models::ops::try_merge;
/// use burn::tensor::{Device, Tensor};
///
/// let device = Device::flex();
/// let attended = |rows| {
///     (Tensor::<4>::zeros([1, 1, rows, 8], &device), Tensor::<3>::zeros([1, 1, rows], &device))
/// };
/// assert_eq!(
///     try_merge(attended(3), attended(4)).unwrap_err().to_string(),
///     "`b.0` has shape [1, 1, 4, 8]; accepted: [1, 1, 3, 8]",
/// );
/// ```
pub fn try_merge(a: Attended, b: Attended) -> Result<Attended, AttentionError> {
    let out = a.0.dims();
    let lse = [out[0], out[1], out[2]];
    check_shape("a.1", &a.1.dims(), &lse)?;
    check_shape("b.0", &b.0.dims(), &out)?;
    check_shape("b.1", &b.1.dims(), &lse)?;
    let device = a.0.device();
    check_device("a.1", &a.1.device(), &device)?;
    check_device("b.0", &b.0.device(), &device)?;
    check_device("b.1", &b.1.device(), &device)?;

    let dtype = a.0.dtype();
    let (weight_a, weight_b, lse) = shares(a.1, b.1);
    let out = a.0.cast(DType::F32) * weight_a.unsqueeze_dim(3)
        + b.0.cast(DType::F32) * weight_b.unsqueeze_dim(3);
    Ok((out.cast(dtype), lse))
}

/// Attention with a sink for each query head: a logit that takes part in the softmax and gives no
/// value, so that a head may attend to nothing.
///
/// `sinks` is `[heads]`, not scaled, and receives a gradient; the log-sum-exp includes it. Zeros are
/// the "quiet" softmax, `exp(x_i) / (1 + sum_j exp(x_j))`.
///
/// # Panics
/// With the message of the error that [`try_with_sinks`] returns.
///
/// # Papers
/// - Xiao et al., StreamingLLM, <https://arxiv.org/abs/2309.17453>, whose learned sinks gpt-oss has
/// - Miller 2023, Attention Is Off By One: the quiet softmax
///
/// ```
/// use attention_models::ops::{AttentionOptions, attention_with_lse, with_sinks};
/// use burn::tensor::{Device, Tensor};
///
/// // One key with score 0 beside a sink of 0: half of the weight is gone.
/// let x = Tensor::<4>::zeros([1, 1, 1, 4], &Device::flex());
/// let ones = Tensor::<4>::ones([1, 1, 1, 4], &Device::flex());
/// let attended = attention_with_lse(x.clone(), x, ones, AttentionOptions::default());
/// let (out, _) = with_sinks(attended, Tensor::zeros([1], &Device::flex()));
/// assert_eq!(out.into_data().to_vec::<f32>().unwrap(), [0.5; 4]);
/// ```
pub fn with_sinks(attended: Attended, sinks: Tensor<1>) -> Attended {
    accept(try_with_sinks(attended, sinks))
}

/// [`with_sinks`], refusing bad input with a typed error.
///
/// # Errors
/// - [`AttentionError::Shape`]: another number of sinks than heads, a log-sum-exp that is not its
///   output's
/// - [`AttentionError::Device`]: tensors on different devices
///
/// ```
/// use attention_models::ops::try_with_sinks;
/// use burn::tensor::{Device, Tensor};
///
/// let device = Device::flex();
/// let attended = (Tensor::zeros([1, 4, 3, 8], &device), Tensor::zeros([1, 4, 3], &device));
/// assert_eq!(
///     try_with_sinks(attended, Tensor::zeros([2], &device)).unwrap_err().to_string(),
///     "`sinks` has shape [2]; accepted: [4]",
/// );
/// ```
pub fn try_with_sinks((out, lse): Attended, sinks: Tensor<1>) -> Result<Attended, AttentionError> {
    let [batch, heads, rows, _] = out.dims();
    check_shape("attended.1", &lse.dims(), &[batch, heads, rows])?;
    check_shape("sinks", &sinks.dims(), &[heads])?;
    check_device("attended.1", &lse.device(), &out.device())?;
    check_device("sinks", &sinks.device(), &out.device())?;

    let dtype = out.dtype();
    let sinks = sinks
        .cast(DType::F32)
        .reshape([1, heads, 1])
        .expand([batch, heads, rows]);
    let (weight, _, lse) = shares(lse, sinks);
    let out = out.cast(DType::F32) * weight.unsqueeze_dim(3);
    Ok((out.cast(dtype), lse))
}

/// `exp(a - lse)`, `exp(b - lse)` and `lse = ln(exp(a) + exp(b))`; where both are `-inf`, the
/// weights are 0 and pass no gradient on.
fn shares(a: Tensor<3>, b: Tensor<3>) -> (Tensor<3>, Tensor<3>, Tensor<3>) {
    let max = a.clone().max_pair(b.clone()).detach();
    let none = max.clone().equal_elem(f32::NEG_INFINITY);
    let max = max.mask_fill(none.clone(), 0.0);
    let (a, b) = ((a - max.clone()).exp(), (b - max.clone()).exp());
    let sum = (a.clone() + b.clone()).mask_fill(none.clone(), 1.0);
    let lse = (sum.clone().log() + max).mask_fill(none, f32::NEG_INFINITY);
    (a / sum.clone(), b / sum, lse)
}
