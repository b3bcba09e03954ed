//! Attention from Burn's own tensor operations: the reference path, and the one that runs where
//! there is no kernel of ours.

use attention_core::{AttentionError, AttentionProblem};
use burn::tensor::{Bool, DType, Device, Int, Tensor};

use super::{AttentionOptions, check::check};

/// Attention composed of matrix products, element-wise operations and reductions, which keeps the
/// whole score matrix in memory: what the fused operation is measured against.
///
/// Shapes, options, semantics and errors are those of
/// [`try_attention_with_lse`](super::try_attention_with_lse), gradients come from Burn's autodiff,
/// and every step is computed in the dtype of the inputs. Keys and values are not repeated for
/// grouped heads.
///
/// ```
/// use attention_models::ops::{AttentionOptions, attention, composition::unfused_attention};
/// use burn::tensor::{Device, Distribution, Tensor, Tolerance};
///
/// let device = Device::flex();
/// let random = |shape: [usize; 4]| Tensor::<4>::random(shape, Distribution::Default, &device);
/// let (q, k, v) = (random([1, 4, 7, 16]), random([1, 2, 9, 16]), random([1, 2, 9, 16]));
///
/// let options = AttentionOptions::default().with_softcap(30.0);
/// let (unfused, _) =
///     unfused_attention(q.clone(), k.clone(), v.clone(), options.clone()).unwrap();
/// let fused = attention(q, k, v, options);
/// fused
///     .into_data()
///     .assert_approx_eq::<f32>(&unfused.into_data(), Tolerance::absolute(1e-5));
/// ```
pub fn unfused_attention(
    query: Tensor<4>,
    key: Tensor<4>,
    value: Tensor<4>,
    options: AttentionOptions,
) -> Result<(Tensor<4>, Tensor<3>), AttentionError> {
    let problem = check(&query, &key, &value, &options)?;
    refuse_code(&options)?;
    Ok(compose(query, key, value, options, &problem))
}

/// Only kernels can run code, and have engines.
pub(super) fn refuse_code(options: &AttentionOptions) -> Result<(), AttentionError> {
    #[cfg(feature = "cube")]
    for (argument, given) in [
        ("score_mod", options.score_mod.is_some()),
        ("mask_mod", options.mask_mod.is_some()),
        ("block_map", options.block_map.is_some()),
        ("weight_mod", options.weight_mod.is_some()),
    ] {
        if given {
            return Err(AttentionError::Value {
                argument,
                given: "a function".into(),
                accepted: "none where Burn's own operations run; a bias or a mask as a tensor"
                    .into(),
            });
        }
    }
    #[cfg(feature = "cube")]
    if options.engine != super::Engine::Auto {
        return Err(AttentionError::Value {
            argument: "engine",
            given: options.engine.to_string(),
            accepted: "auto where Burn's own operations run".into(),
        });
    }
    let _ = options;
    Ok(())
}

/// [`unfused_attention`] of checked arguments, accumulating in `f32` whatever the inputs' dtype.
pub(super) fn compose_in_f32(
    query: Tensor<4>,
    key: Tensor<4>,
    value: Tensor<4>,
    options: AttentionOptions,
    problem: &AttentionProblem,
) -> (Tensor<4>, Tensor<3>) {
    let dtype = query.dtype();
    let options = AttentionOptions {
        bias: options.bias.map(|bias| bias.cast(DType::F32)),
        ..options
    };
    let (out, lse) = compose(
        query.cast(DType::F32),
        key.cast(DType::F32),
        value.cast(DType::F32),
        options,
        problem,
    );
    (out.cast(dtype), lse)
}

fn compose(
    query: Tensor<4>,
    key: Tensor<4>,
    value: Tensor<4>,
    options: AttentionOptions,
    problem: &AttentionProblem,
) -> (Tensor<4>, Tensor<3>) {
    if problem.seq_q == 0 || problem.seq_kv == 0 {
        return without_keys(problem, &query);
    }
    let scores = masked_scores(query, key, options, problem);

    // A row without keys has no maximum: shifting it by 0 leaves its weights at exp(-inf) = 0.
    let max = scores.clone().detach().max_dim(3);
    let no_key = max.clone().equal_elem(f32::NEG_INFINITY);
    let max = max.mask_fill(no_key.clone(), 0.0);
    let weights = (scores - max.clone()).exp();
    let sum = weights.clone().sum_dim(3).mask_fill(no_key.clone(), 1.0);

    let lse = (sum.clone().log() + max).mask_fill(no_key, f32::NEG_INFINITY);
    let out = grouped_matmul(weights / sum, value);
    (out, lse.squeeze_dim::<3>(3).cast(DType::F32))
}

/// `[batch, heads, seq_q, seq_kv]`, `-inf` where a mask hides the key.
pub(super) fn masked_scores(
    query: Tensor<4>,
    key: Tensor<4>,
    options: AttentionOptions,
    problem: &AttentionProblem,
) -> Tensor<4> {
    let spec = options.spec;
    let device = query.device();
    let mut scores =
        grouped_matmul(query, key.swap_dims(2, 3)).mul_scalar(spec.scale_for(problem.head_dim));
    if let Some(softcap) = spec.softcap {
        scores = scores.div_scalar(softcap).tanh().mul_scalar(softcap);
    }
    if let Some(bias) = options.bias {
        scores = scores + bias;
    }
    if let Some(mask) = options.mask {
        scores = scores.mask_fill(mask, f32::NEG_INFINITY);
    }
    if let Some(offset) = problem.causal_offset(spec.causal) {
        let hidden = later_keys(problem, offset, &device);
        scores = scores.mask_fill(hidden, f32::NEG_INFINITY);
    }
    scores
}

/// `rows @ columns`, where every group of heads of `rows` shares one head of `columns`.
pub(super) fn grouped_matmul(rows: Tensor<4>, columns: Tensor<4>) -> Tensor<4> {
    let [batch, heads, seq, width] = rows.dims();
    let [_, shared, _, columns_width] = columns.dims();
    let grouped = [batch, shared, heads / shared * seq, width];
    rows.reshape(grouped)
        .matmul(columns)
        .reshape([batch, heads, seq, columns_width])
}

/// `[1, 1, seq_q, seq_kv]`, `true` where the key comes after the query.
fn later_keys(problem: &AttentionProblem, offset: isize, device: &Device) -> Tensor<4, Bool> {
    let (rows, keys) = (problem.seq_q, problem.seq_kv);
    let last = Tensor::<1, Int>::arange(0..rows as i64, device).add_scalar(offset as i64);
    let key = Tensor::<1, Int>::arange(0..keys as i64, device);
    key.reshape([1, 1, 1, keys])
        .greater(last.reshape([1, 1, rows, 1]))
}

fn without_keys(problem: &AttentionProblem, query: &Tensor<4>) -> (Tensor<4>, Tensor<3>) {
    let device = query.device();
    let out = Tensor::zeros(problem.output_shape(), (&device, query.dtype()));
    let lse = Tensor::full(
        problem.lse_shape(),
        f32::NEG_INFINITY,
        (&device, DType::F32),
    );
    (out, lse)
}
