//! The golden `rope`: rotary positions of both layouts, and every scaling of transformers that it has.

use anyhow::{Context, Result};
use attention_core::{DType, oracle::Tensor4};
use burn::tensor::{Device, Tensor};

use super::{
    composed::{Attention, Composed, Named},
    operations::{Folder, Tensors},
    run::{floats, gradient, upload},
};
use crate::models::blocks::{Positions, Rotary, RotaryConfig, RotaryPairs, RotaryScaling};

/// Queries and keys, rotated, and the gradients of both.
pub fn read(golden: &Folder, name: &str) -> Result<Composed> {
    let tensors = golden.case(name);
    let inputs: Vec<_> = ["q", "k"]
        .into_iter()
        .filter_map(|input| {
            let grad = tensors.input(&format!("d_{input}_out")).ok()?;
            Some((input, tensors.input(input).ok()?, grad))
        })
        .collect();
    let (_, query, _) = inputs.first().context("the golden has no input `q`")?;
    let [.., seq, head_dim] = query.shape;
    let rotary = config(&tensors, name, head_dim)?.try_init()?;
    let positions: Vec<_> = match tensors.integers("positions") {
        Ok(positions) => positions
            .iter()
            .map(|&position| position as usize)
            .collect(),
        Err(_) => {
            let first = tensors.number("pos0")? as usize;
            (first..first + seq).collect()
        }
    };
    // Only some scalings depend on the length, which the positions of the golden do not have.
    let length = tensors
        .number("seq_len")
        .map_or(0, |length| length as usize);
    Ok(Composed {
        name: name.into(),
        expected: tensors.exact(),
        compute: Box::new(move |device, attention| {
            let mut outputs: Named = vec![("inv_freq".into(), rotary.frequencies(length))];
            for (name, heads, grad) in &inputs {
                let heads = (heads, grad);
                let (out, grad) = rotate(&rotary, &positions, length, heads, device, attention)?;
                outputs.push((format!("{name}_out"), out));
                outputs.push((format!("d{name}"), grad));
            }
            Ok(outputs)
        }),
    })
}

fn config(tensors: &Tensors, name: &str, head_dim: usize) -> Result<RotaryConfig> {
    let config = RotaryConfig::new(head_dim);
    let Some(kind) = name.strip_prefix("scaled_") else {
        let pairs = if name.starts_with("interleaved") {
            RotaryPairs::Interleaved
        } else {
            RotaryPairs::Halves
        };
        return Ok(config
            .with_rotary_dims(Some(tensors.number("rotary_dims")? as usize))
            .with_theta(tensors.float("theta")?)
            .with_pairs(pairs));
    };
    let factor = tensors.float("factor")?;
    let trained_length = tensors.number("max_position_embeddings")? as usize;
    let scaling = match kind {
        "linear" => RotaryScaling::Linear { factor },
        "dynamic" => RotaryScaling::Dynamic {
            factor,
            trained_length,
        },
        "yarn" => RotaryScaling::Yarn {
            factor,
            trained_length,
            beta_fast: tensors.float("beta_fast")?,
            beta_slow: tensors.float("beta_slow")?,
            truncate: true,
            attention_factor: tensors.float("attention_factor")?,
        },
        "llama3" => RotaryScaling::Llama3 {
            factor,
            trained_length,
            low_frequency: tensors.float("low_freq_factor")?,
            high_frequency: tensors.float("high_freq_factor")?,
        },
        other => anyhow::bail!("scaling `{other}` is not known here"),
    };
    Ok(config
        .with_theta(tensors.float("rope_theta")?)
        .with_scaling(scaling))
}

/// The rotated heads, and the gradient with respect to them.
fn rotate(
    rotary: &Rotary,
    positions: &[usize],
    length: usize,
    (heads, grad): (&Tensor4, &Tensor4),
    device: &Device,
    attention: Attention,
) -> Result<(Vec<f64>, Vec<f64>)> {
    let device = device.clone().autodiff();
    let heads = upload(heads, DType::F32, &device).require_grad();
    let out = match attention {
        Attention::Fused => {
            let positions = Positions::of(vec![positions.to_vec()])?;
            let table = rotary.table_for(&positions, length.max(positions.end()), &device);
            table.rotate(heads.clone())
        }
        Attention::Unfused => by_definition(rotary, positions, length, heads.clone()),
    };
    let loss = out.clone() * upload(grad, DType::F32, &device);
    let gradients = loss.sum().backward();
    Ok((floats(out), gradient(&heads, &gradients)?))
}

/// `x cos + rotated(x) sin` by a matrix that turns pairs by a quarter, with angles in f32, as
/// transformers has them.
fn by_definition(
    rotary: &Rotary,
    positions: &[usize],
    length: usize,
    heads: Tensor<4>,
) -> Tensor<4> {
    let device = heads.device();
    let width = heads.dims()[3];
    let frequencies = rotary.frequencies(length);
    let half = frequencies.len();
    let mut turn = vec![0f32; width * width];
    let mut speeds = vec![0f32; width];
    for (pair, frequency) in frequencies.iter().enumerate() {
        let (a, b) = match rotary.config().pairs {
            RotaryPairs::Halves => (pair, pair + half),
            RotaryPairs::Interleaved => (2 * pair, 2 * pair + 1),
        };
        (speeds[a], speeds[b]) = (*frequency as f32, *frequency as f32);
        turn[b * width + a] = -1.0;
        turn[a * width + b] = 1.0;
    }
    let turn = Tensor::<1>::from_data(turn.as_slice(), &device).reshape([1, 1, width, width]);
    let speeds = Tensor::<1>::from_data(speeds.as_slice(), &device).reshape([1, 1, 1, width]);
    let positions: Vec<f32> = positions.iter().map(|&position| position as f32).collect();
    let positions = Tensor::<1>::from_data(positions.as_slice(), &device);
    let angles = positions.reshape([1, 1, -1, 1]) * speeds;
    // Dimensions that are not rotated have angle 0, and keep the scale of the cosine for themselves.
    let factor = rotary.attention_factor();
    let turned = heads.clone().matmul(turn);
    heads * angles.clone().cos().mul_scalar(factor) + turned * angles.sin().mul_scalar(factor)
}
