//! Differential attention: the difference of two attentions over the same values.

use attention_core::AttentionError;
use burn::tensor::{DType, Tensor, kind::Basic};

use super::{
    AttentionOptions, accept,
    check::{self, check_device, check_dtype, check_shape},
    try_attention,
};

/// The difference of two attentions over the same values: what both maps attend to cancels, as
/// noise does between the inputs of a differential amplifier.
///
/// ```text
/// out = attention(query[0], key[0], value) - lambda * attention(query[1], key[1], value)
/// ```
///
/// Both maps are heads of one fused call. Queries and keys are copied once, side by side; values
/// are read by both maps where they lie.
///
/// # Shapes
/// - `query`, of each map: `[batch, heads, seq_q, head_dim]`
/// - `key`, of each map: `[batch, kv_heads, seq_kv, head_dim]`; `kv_heads` divides `heads`
/// - `value`: `[batch, value_heads, seq_kv, value_dim]`; `value_heads` divides `kv_heads`. The paper
///   has values twice as wide as queries
/// - `lambda`: `[1]` or `[heads]`
/// - `options.mask`, `options.bias`: `[batch | 1, heads | 1, seq_q | 1, seq_kv | 1]`, of both maps
/// - returns `[batch, heads, seq_q, value_dim]`
///
/// Code in `options` sees both maps' heads: with `group = heads / kv_heads`, head `h` of map `m` is
/// `2 h - h % group + m * group`, which is `2 h + m` without grouped heads.
///
/// # Dtypes
/// As for [`attention`](super::attention); the difference is taken in `f32`. Gradients reach both
/// queries and keys, `value`, `lambda` and `options.bias`.
///
/// # Panics
/// With the message of the error that [`try_differential_attention`] returns.
///
/// # Paper
/// Ye et al. 2024, Differential Transformer, <https://arxiv.org/abs/2410.05258>
///
/// ```
/// use attention_models::ops::{AttentionOptions, CausalAlignment, differential_attention};
/// use burn::tensor::{Device, Distribution, Tensor};
///
/// let device = Device::flex().autodiff();
/// let random = |shape: [usize; 4]| Tensor::<4>::random(shape, Distribution::Default, &device);
/// // Four heads, of which two share a head of keys and one of values.
/// let query = [random([1, 4, 5, 16]), random([1, 4, 5, 16])];
/// let key = [random([1, 2, 5, 16]), random([1, 2, 5, 16])];
/// let lambda = Tensor::<1>::from_data([0.3], &device).require_grad();
///
/// let options = AttentionOptions::default().with_causal(CausalAlignment::BottomRight);
/// let out = differential_attention(query, key, random([1, 2, 5, 32]), lambda.clone(), options);
/// assert_eq!(out.dims(), [1, 4, 5, 32]);
///
/// let gradients = out.sum().backward();
/// assert_eq!(lambda.grad(&gradients).unwrap().dims(), [1]);
/// ```
pub fn differential_attention(
    query: [Tensor<4>; 2],
    key: [Tensor<4>; 2],
    value: Tensor<4>,
    lambda: Tensor<1>,
    options: AttentionOptions,
) -> Tensor<4> {
    accept(try_differential_attention(
        query, key, value, lambda, options,
    ))
}

/// [`differential_attention`], refusing bad input with a typed error.
///
/// # Errors
/// - [`AttentionError::Shape`]: maps that differ in shape, a `lambda` of another length than 1 or
///   `heads`
/// - [`AttentionError::DType`], [`AttentionError::Device`]: the same for map 1's tensors and `lambda`,
///   which may have another float dtype
/// - those of [`try_attention`]
///
/// ```
/// use attention_models::ops::{AttentionOptions, try_differential_attention};
/// use burn::tensor::{Device, Tensor};
///
/// let device = Device::flex();
/// let zeros = || Tensor::<4>::zeros([1, 4, 5, 16], &device);
/// let refusal = try_differential_attention(
///     [zeros(), zeros()],
///     [zeros(), zeros()],
///     zeros(),
///     Tensor::zeros([2], &device),
///     AttentionOptions::default(),
/// );
/// assert_eq!(
///     refusal.unwrap_err().to_string(),
///     "`lambda` has shape [2]; accepted: [1] or [4]",
/// );
/// ```
pub fn try_differential_attention(
    query: [Tensor<4>; 2],
    key: [Tensor<4>; 2],
    value: Tensor<4>,
    lambda: Tensor<1>,
    options: AttentionOptions,
) -> Result<Tensor<4>, AttentionError> {
    let problem = check::check(&query[0], &key[0], &value, &options)?;
    let (device, dtype) = (query[0].device(), query[0].dtype());
    for (argument, [first, second]) in [("query[1]", &query), ("key[1]", &key)] {
        check_shape(argument, &second.dims(), &first.dims())?;
        check_dtype(argument, second.dtype(), dtype)?;
        check_device(argument, &second.device(), &device)?;
    }
    let factors = lambda.dims();
    if factors != [1] && factors != [problem.heads] {
        return Err(AttentionError::Shape {
            argument: "lambda",
            given: factors.to_vec(),
            accepted: format!("[1] or [{}]", problem.heads),
        });
    }
    check_device("lambda", &lambda.device(), &device)?;

    let (kv_heads, group) = (problem.kv_heads, problem.group_size());
    let options = AttentionOptions {
        mask: options.mask.map(|mask| of_both(mask, kv_heads)),
        bias: options.bias.map(|bias| of_both(bias, kv_heads)),
        ..options
    };
    let query = side_by_side(query, kv_heads);
    let key = side_by_side(key, kv_heads);
    let out = try_attention(query, key, value, options)?;

    let [batch, heads, seq_q, value_dim] = problem.output_shape();
    let maps = out.swap_dims(1, 2);
    let maps = maps.reshape([batch, seq_q, kv_heads, 2 * group, value_dim]);
    let map = |n: usize| {
        let map = maps.clone().slice_dim(3, n * group..(n + 1) * group);
        map.reshape([batch, seq_q, heads, value_dim])
            .cast(DType::F32)
    };
    let lambda = lambda.cast(DType::F32).reshape([1, 1, factors[0], 1]);
    let difference = map(0) - map(1) * lambda;
    Ok(difference.swap_dims(1, 2).cast(dtype))
}

/// The heads of both maps, `[batch, 2 * heads, ..]`: those that share a key head stand together, map
/// 0's before map 1's, so that both maps' key heads have the same value head.
fn side_by_side<K: Basic>(maps: [Tensor<4, K>; 2], kv_heads: usize) -> Tensor<4, K> {
    let [batch, heads, rows, width] = maps[0].dims();
    // Rows first, as projections leave them; and an empty dimension has to keep its place.
    let grouped = maps.map(|map| {
        map.swap_dims(1, 2)
            .reshape([batch, rows, kv_heads, heads / kv_heads, width])
    });
    Tensor::cat(grouped.to_vec(), 3)
        .reshape([batch, rows, 2 * heads, width])
        .swap_dims(1, 2)
}

/// A mask or bias for the heads of both maps.
fn of_both<K: Basic>(table: Tensor<4, K>, kv_heads: usize) -> Tensor<4, K> {
    match table.dims()[1] {
        1 => table,
        _ => side_by_side([table.clone(), table], kv_heads),
    }
}
