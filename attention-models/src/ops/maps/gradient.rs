//! Gradient times attention, to hold beside the probabilities.

use attention_core::AttentionError;
use burn::tensor::Tensor;

use super::{
    super::{AttentionOptions, accept},
    Map,
    call::Call,
};

/// Gradient times attention of chosen queries, `p * dp` with `dp = grad_out v^T`: how much what is
/// differentiated would change, to first order, if a probability went to 0.
///
/// # Shapes
/// - `value`: `[batch, kv_heads, seq_kv, value_dim]`
/// - `grad_out`: `[batch, heads, seq_q, value_dim]` in the query's dtype, the gradient of a number, such
///   as a class' logit, by the output of this attention
/// - returns `[batch, heads, rows, seq_kv]` in `f32`, without autodiff
///
/// The other shapes are those of [`attention_rows`](super::attention_rows). Chefer et al. 2021
/// (<https://arxiv.org/abs/2103.15679>) average the positive part over the heads:
/// `.clamp_min(0.0).mean_dim(1)`. Unlike a probability alone it says which way a key pushes, and it
/// is 0 where attention does not matter.
///
/// # Panics
/// With the message of the error that [`try_gradient_times_attention`] returns.
///
/// ```
/// use attention_models::ops::{AttentionOptions, attention_with_lse, gradient_times_attention};
/// use burn::tensor::{Device, Tensor};
///
/// let device = Device::flex();
/// let x = Tensor::<4>::zeros([1, 1, 2, 1], &device);
/// let value = Tensor::<4>::from_data([[[[6.0], [-2.0]]]], &device);
/// let options = AttentionOptions::default();
/// let (out, lse) = attention_with_lse(x.clone(), x.clone(), value.clone(), options.clone());
/// let shown = gradient_times_attention(x.clone(), x, value, lse, out.ones_like(), &[0], options);
/// assert_eq!(shown.into_data().to_vec::<f32>().unwrap(), [3.0, -1.0]);
/// ```
pub fn gradient_times_attention(
    query: Tensor<4>,
    key: Tensor<4>,
    value: Tensor<4>,
    lse: Tensor<3>,
    grad_out: Tensor<4>,
    rows: &[usize],
    options: AttentionOptions,
) -> Tensor<4> {
    accept(try_gradient_times_attention(
        query, key, value, lse, grad_out, rows, options,
    ))
}

/// [`gradient_times_attention`], refusing bad input with a typed error.
///
/// # Errors
/// Those of [`try_attention_rows`](super::try_attention_rows), and those of the `lse` also for a
/// `grad_out` that is not of the output's shape, dtype and device.
pub fn try_gradient_times_attention(
    query: Tensor<4>,
    key: Tensor<4>,
    value: Tensor<4>,
    lse: Tensor<3>,
    grad_out: Tensor<4>,
    rows: &[usize],
    options: AttentionOptions,
) -> Result<Tensor<4>, AttentionError> {
    let call = Call {
        query,
        key,
        lse,
        options,
        gradient: Some((value, grad_out)),
    };
    let (values, _) = call.show(Map::GradientTimes(rows.to_vec()))?;
    Ok(values)
}
