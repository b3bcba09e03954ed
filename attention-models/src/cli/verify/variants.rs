//! Goldens of masks and score modifications: ours gets code, the oracle a mask or a bias.

use anyhow::Result;
use attention_core::{
    CausalAlignment,
    oracle::{Mask4, Tensor4},
};
use attention_kernels::variants;
use burn::tensor::{Device, Int, Tensor, TensorData};

use super::{
    case::Case,
    operations::{Reader, Tensors},
};
use crate::ops::{AttentionOptions, AttentionSpec, MaskMod};

/// How the golden of this name is read.
pub fn reader(name: &str) -> Option<Reader> {
    match name {
        "alibi" => Some(alibi),
        "bigbird_mask" => Some(big_bird),
        "longformer_mask" => Some(longformer),
        "prefix_lm" => Some(prefix_lm),
        "sparse_transformer" => Some(sparse_transformer),
        "t5_relative_bias" => Some(relative_position_bias),
        _ => None,
    }
}

/// A vector on a device.
pub fn floats(values: &[f64], device: &Device) -> Tensor<1> {
    let values: Vec<f32> = values.iter().map(|&value| value as f32).collect();
    Tensor::from_data(TensorData::from(values.as_slice()), device)
}

/// A vector of integers on a device.
pub fn integers(values: &[i32], device: &Device) -> Tensor<1, Int> {
    Tensor::from_data(TensorData::from(values), device)
}

/// `[batch, heads, seq_q, seq_kv]` of a function of the position.
fn dense<T>(case: &Case, of: impl Fn([usize; 4]) -> T) -> ([usize; 4], Vec<T>) {
    let [batch, heads, rows, _] = case.inputs.query.shape;
    let keys = case.inputs.key.shape[2];
    let count = batch * heads * rows * keys;
    let at = |n: usize| {
        [
            n / (heads * rows * keys),
            n / (rows * keys) % heads,
            n / keys % rows,
            n % keys,
        ]
    };
    (
        [batch, heads, rows, keys],
        (0..count).map(|n| of(at(n))).collect(),
    )
}

/// Hides what `visible` does not show from the oracle.
pub fn show(case: &mut Case, visible: impl Fn([usize; 4]) -> bool) {
    let (shape, hidden) = dense(case, |at| !visible(at));
    case.inputs.mask = Some(Mask4::new(shape, hidden));
}

/// Adds `term` to the oracle's scores.
pub fn add(case: &mut Case, term: impl Fn([usize; 4]) -> f64) {
    let (shape, terms) = dense(case, term);
    case.inputs.bias = Some(Tensor4::new(shape, terms));
}

fn masked(case: &mut Case, mask: impl Fn(&Device) -> MaskMod + Send + Sync + 'static) {
    *case = case
        .clone()
        .with_code(move |device| AttentionOptions::default().with_mask_mod(mask(device)));
}

fn alibi(tensors: &Tensors, case: &mut Case) -> Result<()> {
    let slopes = tensors.input("slopes")?.data;
    let of_head = slopes.clone();
    add(case, move |[_, head, i, j]| {
        -of_head[head] * i.abs_diff(j) as f64
    });
    if tensors.flag("causal") {
        case.spec = case.spec.with_causal(CausalAlignment::TopLeft);
    }
    let spec = case.spec;
    *case = case.clone().with_code(move |device| {
        let slopes = floats(&slopes, device);
        AttentionOptions::from(spec).with_score_mod(variants::alibi(slopes, 0))
    });
    Ok(())
}

fn relative_position_bias(tensors: &Tensors, case: &mut Case) -> Result<()> {
    let [_, _, count, heads] = tensors.input("table")?.shape;
    let by_bucket = tensors.input("table")?.data;
    let table: Vec<f64> = (0..heads * count)
        .map(|n| by_bucket[n % count * heads + n / count])
        .collect();
    let (causal, max_distance) = (tensors.flag("causal"), tensors.number("max_distance")?);
    let offset = case.inputs.key.shape[2] - case.inputs.query.shape[2];
    let buckets = variants::relative_position_buckets(count as u32, max_distance, !causal);

    let golden = tensors.known_integers("bucket")?;
    let keys = case.inputs.key.shape[2];
    let of_head = table.clone();
    add(case, move |[_, head, i, j]| {
        of_head[head * count + golden[i * keys + j] as usize]
    });
    let spec = AttentionSpec::default().with_scale(1.0);
    case.spec = if causal {
        spec.with_causal(CausalAlignment::BottomRight)
    } else {
        spec
    };
    let spec = case.spec;
    *case = case.clone().with_code(move |device| {
        AttentionOptions::from(spec).with_score_mod(variants::relative_position_bias(
            floats(&table, device),
            integers(&buckets, device),
            count as u32,
            !causal,
            offset as u32,
        ))
    });
    Ok(())
}

fn prefix_lm(tensors: &Tensors, case: &mut Case) -> Result<()> {
    let lengths = tensors.integers("prefix")?;
    let of_batch = lengths.clone();
    show(case, move |[batch, _, i, j]| {
        j <= i || (j as i32) < of_batch[batch]
    });
    masked(case, move |device| {
        variants::prefix_lm(integers(&lengths, device))
    });
    Ok(())
}

fn longformer(tensors: &Tensors, case: &mut Case) -> Result<()> {
    let (reach, dilation) = (tensors.number("w")?, tensors.number("dilation")?);
    case.inputs.mask = Some(tensors.mask("mask")?);
    let mut flags = vec![0; case.inputs.query.shape[2]];
    for token in tensors.numbers("global_tokens") {
        flags[token as usize] = 1;
    }
    masked(case, move |device| {
        let window = variants::dilated_window(reach, dilation);
        window.or(variants::flagged_tokens(integers(&flags, device)))
    });
    Ok(())
}

fn big_bird(tensors: &Tensors, case: &mut Case) -> Result<()> {
    let (block, per_block) = (tensors.number("block")?, tensors.number("random")?);
    let given = tensors.integers("random_blocks")?;
    let seq = case.inputs.query.shape[2] as u32;
    case.inputs.mask = Some(tensors.mask("mask")?);
    masked(case, move |device| {
        variants::big_bird(block, seq, per_block, integers(&given, device))
    });
    Ok(())
}

fn sparse_transformer(tensors: &Tensors, case: &mut Case) -> Result<()> {
    let (stride, count) = (tensors.number("stride")?, tensors.number("c")?);
    case.inputs.mask = Some(tensors.mask("mask")?);
    let blocks: Vec<i32> = (0..case.inputs.query.shape[2] as u32)
        .map(|token| (token / stride) as i32)
        .collect();
    let name = case.name.clone();
    masked(case, move |device| {
        let own_block = || {
            let blocks = integers(&blocks, device);
            variants::same_document(blocks.clone(), blocks)
        };
        let before = || variants::sliding_window(stride, 0, 0);
        let pattern = match name.split('_').next().unwrap_or_default() {
            "strided1" => before(),
            "strided2" => variants::strided(stride),
            "strided" => before().or(variants::strided(stride)),
            "fixed1" => own_block(),
            "fixed2" => variants::fixed_summary(stride, count),
            _ => own_block().or(variants::fixed_summary(stride, count)),
        };
        pattern.and(variants::causal(0))
    });
    Ok(())
}
