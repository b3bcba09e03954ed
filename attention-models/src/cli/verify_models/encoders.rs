//! Encoders of text.

use std::path::Path;

use anyhow::{Context, Result, bail};
use burn::tensor::{Bool, Device, Tensor};

use super::{Group, Values};
use crate::models::encoder::{Deberta, Encoder, EncoderInput, EncoderOutput};

pub(super) const GROUP: Group = Group {
    names: &[
        "bert",
        "roformer",
        "modernbert",
        "clip_text",
        "minilm",
        "rxnmapper_albert",
    ],
    compute,
};

pub(super) const DEBERTA: Group = Group {
    names: &["deberta_v2"],
    compute: compute_deberta,
};

fn compute(folder: &Path, inputs: &Values, wanted: &[&str], device: &Device) -> Result<Values> {
    let model = Encoder::load(folder, device)?;
    let input = encoder_input(inputs, device)?;
    let states = model.hidden_states(&input)?;
    let last = states.last().context("the model has no hidden state")?;
    let output = model.finish(last.clone(), &input);
    let maps = || {
        let layers = states[..states.len() - 1].iter().enumerate();
        let maps = layers
            .map(|(layer, tokens)| model.attention_probabilities(layer, tokens.clone(), &input));
        Ok(maps.collect::<Result<Vec<_>, _>>()?)
    };
    // transformers counts the normed output as the last hidden state, except for CLIP.
    let mut shown = states.clone();
    if model.config().local.is_some() {
        shown.pop();
        shown.push(output.last_hidden_state.clone());
    }
    outputs(wanted, &shown, &output, maps)
}

fn compute_deberta(
    folder: &Path,
    inputs: &Values,
    wanted: &[&str],
    device: &Device,
) -> Result<Values> {
    let model = Deberta::load(folder, device)?;
    let input = encoder_input(inputs, device)?;
    let states = model.hidden_states(&input)?;
    let output = model.try_forward(input.clone())?;
    let maps = || {
        let layers = states[..states.len() - 1].iter().enumerate();
        let maps = layers
            .map(|(layer, tokens)| model.attention_probabilities(layer, tokens.clone(), &input));
        Ok(maps.collect::<Result<Vec<_>, _>>()?)
    };
    outputs(wanted, &states, &output, maps)
}

fn encoder_input(inputs: &Values, device: &Device) -> Result<EncoderInput> {
    let tokens = inputs.get("input_ids");
    let tokens = tokens.context("the golden has no input `input_ids`")?;
    let mut input = EncoderInput::new(Tensor::from_data(tokens.clone(), device));
    input.padding = padding(inputs, device);
    if let Some(segments) = inputs.get("token_type_ids") {
        input = input.with_segments(Tensor::from_data(segments.clone(), device));
    }
    Ok(input)
}

/// transformers' masks say who takes part, ours who does not.
pub(super) fn padding(inputs: &Values, device: &Device) -> Option<Tensor<2, Bool>> {
    let mask = inputs.get("attention_mask")?;
    let mask = Tensor::<2, burn::tensor::Int>::from_data(mask.clone(), device);
    Some(mask.equal_elem(0))
}

fn outputs(
    wanted: &[&str],
    states: &[Tensor<3>],
    output: &EncoderOutput,
    maps: impl Fn() -> Result<Vec<Tensor<4>>>,
) -> Result<Values> {
    let mut values = Values::new();
    for name in wanted {
        let data = match *name {
            "last_hidden_state" => output.last_hidden_state.to_data(),
            "pooler_output" => {
                let pooled = output.pooled.clone();
                pooled.context("the model does not pool")?.to_data()
            }
            "embedding" => {
                let mean = output.mean();
                let length = mean.clone().square().sum_dim(1).sqrt();
                (mean / length).to_data()
            }
            "hidden_states" => Tensor::stack::<4>(states.to_vec(), 0).to_data(),
            "attentions" => Tensor::stack::<5>(maps()?, 0).to_data(),
            _ => bail!("output `{name}` is not known here"),
        };
        values.insert((*name).to_string(), data);
    }
    Ok(values)
}
