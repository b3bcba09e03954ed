//! The golden `op_mha`: torch's `MultiheadAttention`, `TransformerEncoderLayer` (pre-norm, GELU)
//! and `TransformerDecoderLayer` (post-norm, ReLU), all of width 32 with 4 heads.

use std::{collections::BTreeMap, path::Path};

use anyhow::{Context, Result};
use attention_core::{AttentionSpec, CausalAlignment, DType};
use burn::{
    module::Param,
    nn::{LayerNorm, LayerNormConfig, Linear, LinearConfig},
    tensor::{Bool, Device, Tensor, TensorData, activation},
};

use super::{
    bound::{Devices, bound, distance, largest},
    run::{dtype_name, floats},
};
use crate::{
    cli::verify_models::Row,
    models::checkpoint::Weights,
    nn::{MhaInput, MultiHeadAttention, MultiHeadAttentionConfig},
    ops::{AttentionOptions, composition::unfused_attention, try_attention_with_lse},
};

const WIDTH: usize = 32;
const HEADS: usize = 4;

/// Compares the outputs of the module and of both layers, and the attention weights.
pub fn check(folder: &Path, devices: Devices<'_>) -> Result<Vec<Row>> {
    let golden = Golden {
        weights: Weights::open(&folder.join("model.safetensors"))?.data()?,
        io: Weights::open(&folder.join("io.safetensors"))?.data()?,
        device: devices.ours.clone(),
    };
    let beside = Golden {
        device: devices.unfused.clone(),
        ..golden.clone()
    };
    let ours = golden.outputs(|module, input| Ok(module.try_forward(input)?))?;
    let peers = beside.outputs(unfused)?;
    let outputs = ours.into_iter().zip(peers);
    outputs
        .map(|((name, ours), (_, peer))| {
            let expected: Vec<f64> = golden.io(&format!("out.{name}"))?.iter::<f64>().collect();
            Ok(Row {
                name: name.to_string(),
                dtype: dtype_name(DType::F32),
                worst_error: distance(&ours, &expected),
                bound: bound(distance(&peer, &expected), DType::F32, largest(&expected)),
            })
        })
        .collect()
}

#[derive(Clone)]
struct Golden {
    weights: BTreeMap<String, TensorData>,
    io: BTreeMap<String, TensorData>,
    device: Device,
}

impl Golden {
    fn io(&self, name: &str) -> Result<&TensorData> {
        let data = self.io.get(name);
        data.with_context(|| format!("the golden has no tensor `{name}`"))
    }

    /// Everything that the golden compares, with attention computed by `attend`.
    fn outputs(
        &self,
        attend: impl Fn(&MultiHeadAttention, MhaInput) -> Result<Tensor<3>>,
    ) -> Result<Vec<(&'static str, Vec<f64>)>> {
        let input = |name: &str| Ok::<_, anyhow::Error>(self.tensor::<3>(self.io(name)?));
        let (x, y) = (input("in.x")?, input("in.y")?);
        let padding =
            Tensor::<2, Bool>::from_data(self.io("in.key_padding_mask")?.clone(), &self.device);
        let padded = |input: MhaInput| input.mask_pad(padding.clone());

        let module = self.attention("mha", AttentionSpec::default())?;
        let cross = padded(MhaInput::new(y.clone(), x.clone(), x.clone()));
        let weights = weights(&module, &cross)?;
        let context = attend(&module, cross)?;

        let encoder = self.attention("enc.self_attn", AttentionSpec::default())?;
        let normed = self.norm("enc.norm1")?.forward(x.clone());
        let state = x.clone() + attend(&encoder, padded(MhaInput::self_attn(normed)))?;
        let normed = self.norm("enc.norm2")?.forward(state.clone());
        let encoded = state + self.feed_forward("enc", normed, activation::gelu)?;

        let causal = AttentionSpec::default().with_causal(CausalAlignment::BottomRight);
        let (own, other) = (
            self.attention("dec.self_attn", causal)?,
            self.attention("dec.multihead_attn", AttentionSpec::default())?,
        );
        let state = y.clone() + attend(&own, MhaInput::self_attn(y))?;
        let state = self.norm("dec.norm1")?.forward(state);
        let context_of_memory = attend(&other, padded(MhaInput::new(state.clone(), x.clone(), x)))?;
        let state = self.norm("dec.norm2")?.forward(state + context_of_memory);
        let fed = self.feed_forward("dec", state.clone(), activation::relu)?;
        let decoded = self.norm("dec.norm3")?.forward(state + fed);

        Ok(vec![
            ("mha", floats(context)),
            ("mha_weights", floats(weights)),
            ("enc", floats(encoded)),
            ("dec", floats(decoded)),
        ])
    }

    fn tensor<const D: usize>(&self, data: &TensorData) -> Tensor<D> {
        Tensor::from_data(data.clone(), &self.device)
    }

    fn weight<const D: usize>(&self, name: &str) -> Result<Tensor<D>> {
        let data = self.weights.get(name);
        Ok(self.tensor(data.with_context(|| format!("the golden has no weight `{name}`"))?))
    }

    /// torch keeps the projections of query, key and value in one matrix.
    fn attention(&self, name: &str, spec: AttentionSpec) -> Result<MultiHeadAttention> {
        let weight: Tensor<2> = self.weight(&format!("{name}.in_proj_weight"))?;
        let bias: Tensor<1> = self.weight(&format!("{name}.in_proj_bias"))?;
        let part = |index: usize| {
            let rows = index * WIDTH..(index + 1) * WIDTH;
            linear(
                weight.clone().slice_dim(0, rows.clone()),
                bias.clone().slice_dim(0, rows),
            )
        };
        let mut module = MultiHeadAttentionConfig::new(WIDTH, HEADS)
            .with_spec(spec)
            .init(&self.device);
        [module.query, module.key, module.value] = [part(0), part(1), part(2)];
        module.output = self.linear(&format!("{name}.out_proj"))?;
        Ok(module)
    }

    fn linear(&self, name: &str) -> Result<Linear> {
        Ok(linear(
            self.weight(&format!("{name}.weight"))?,
            self.weight(&format!("{name}.bias"))?,
        ))
    }

    fn norm(&self, name: &str) -> Result<LayerNorm> {
        let mut norm = LayerNormConfig::new(WIDTH).init(&self.device);
        norm.gamma = Param::from_tensor(self.weight(&format!("{name}.weight"))?);
        norm.beta = Some(Param::from_tensor(self.weight(&format!("{name}.bias"))?));
        Ok(norm)
    }

    fn feed_forward(
        &self,
        layer: &str,
        input: Tensor<3>,
        activate: fn(Tensor<3>) -> Tensor<3>,
    ) -> Result<Tensor<3>> {
        let wide = self.linear(&format!("{layer}.linear1"))?.forward(input);
        Ok(self
            .linear(&format!("{layer}.linear2"))?
            .forward(activate(wide)))
    }
}

/// A layer with torch's weights, `[d_output, d_input]`.
fn linear(weight: Tensor<2>, bias: Tensor<1>) -> Linear {
    let [d_output, d_input] = weight.dims();
    let mut linear = LinearConfig::new(d_input, d_output).init(&weight.device());
    linear.weight = Param::from_tensor(weight.transpose());
    linear.bias = Some(Param::from_tensor(bias));
    linear
}

/// `[batch, seq, heads * dim]` as `[batch, heads, seq, dim]`.
fn by_head(tensor: Tensor<3>) -> Tensor<4> {
    let [batch, seq, width] = tensor.dims();
    tensor
        .reshape([batch, seq, HEADS, width / HEADS])
        .swap_dims(1, 2)
}

fn options(module: &MultiHeadAttention, input: &MhaInput) -> AttentionOptions {
    let mut options = AttentionOptions::from(module.spec);
    options.mask = input.mask_pad.clone().map(|padding| {
        let [batch, seq_kv] = padding.dims();
        padding.reshape([batch, 1, 1, seq_kv])
    });
    options
}

/// The module's context from Burn's own operations.
fn unfused(module: &MultiHeadAttention, input: MhaInput) -> Result<Tensor<3>> {
    let options = options(module, &input);
    let (context, _) = unfused_attention(
        by_head(module.query.forward(input.query)),
        by_head(module.key.forward(input.key)),
        by_head(module.value.forward(input.value)),
        options,
    )?;
    let [batch, heads, seq, dim] = context.dims();
    let merged = context.swap_dims(1, 2).reshape([batch, seq, heads * dim]);
    Ok(module.output.forward(merged))
}

/// `[batch, heads, seq_q, seq_kv]`, from the log-sum-exp: `exp(score - lse)`.
fn weights(module: &MultiHeadAttention, input: &MhaInput) -> Result<Tensor<4>> {
    let options = options(module, input);
    let query = by_head(module.query.forward(input.query.clone()));
    let key = by_head(module.key.forward(input.key.clone()));
    let value = by_head(module.value.forward(input.value.clone()));
    let mask = options.mask.clone();
    let (_, lse) = try_attention_with_lse(query.clone(), key.clone(), value, options)?;
    let scale = module.spec.scale_for(WIDTH / HEADS);
    let scores = query.matmul(key.swap_dims(2, 3)).mul_scalar(scale);
    let weights = (scores - lse.unsqueeze_dim::<4>(3)).exp();
    Ok(match mask {
        Some(mask) => {
            let shape = weights.dims();
            weights.mask_fill(mask.expand(shape), 0.0)
        }
        None => weights,
    })
}
