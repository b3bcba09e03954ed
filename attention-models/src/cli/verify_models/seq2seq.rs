//! Encoder-decoders.

use std::path::Path;

use anyhow::{Context, Result, bail};
use burn::tensor::{Device, Int, Tensor, TensorData};

use super::{Group, Values, encoders::padding};
use crate::models::{
    generation::{BeamConfig, GenerationConfig},
    seq2seq::{Memory, Seq2Seq, Source},
};

pub(super) const GROUP: Group = Group {
    names: &["t5", "marian", "bart", "whisper"],
    compute,
};

/// The goldens generate so many tokens, neither fewer nor more.
const NEW_TOKENS: usize = 6;

fn compute(folder: &Path, inputs: &Values, wanted: &[&str], device: &Device) -> Result<Values> {
    let model = Seq2Seq::load(folder, device)?;
    let source = source(inputs, device)?;
    let target = inputs.get("decoder_input_ids");
    let target = target.context("the golden has no input `decoder_input_ids`")?;
    let target = Tensor::<2, Int>::from_data(target.clone(), device);
    let memory = model.encode(source.clone())?;
    let states = model.decoder_states(target, &memory)?;
    let last = states.last().context("the decoder has no output")?;
    let defaults = &model.config().generation;
    let config = defaults.greedy().with_min_new_tokens(NEW_TOKENS);
    let config = GenerationConfig {
        max_new_tokens: NEW_TOKENS,
        ..config
    };
    let mut values = Values::new();
    for name in wanted {
        let data = match *name {
            "encoder_last_hidden_state" => memory.states.to_data(),
            "encoder_hidden_states" => {
                Tensor::stack::<4>(model.encoder_states(source.clone())?, 0).to_data()
            }
            "decoder_hidden_states" => Tensor::stack::<4>(states.clone(), 0).to_data(),
            "cross_attentions" => cross_attentions(&model, &states, &memory)?.to_data(),
            "logits" => model.logits(last.clone()).to_data(),
            "generated_ids" => {
                let rows = model.generate(source.clone(), &config)?;
                with_start(rows, defaults.start_token)
            }
            "beam4_ids" => {
                let rows = model.beam_search(source.clone(), &config, &BeamConfig::new(4))?;
                with_start(rows, defaults.start_token)
            }
            _ => bail!("output `{name}` is not known here"),
        };
        values.insert((*name).to_string(), data);
    }
    Ok(values)
}

fn source(inputs: &Values, device: &Device) -> Result<Source> {
    if let Some(features) = inputs.get("input_features") {
        return Ok(Source::Audio(Tensor::from_data(features.clone(), device)));
    }
    let tokens = inputs.get("input_ids");
    let tokens = tokens.context("the golden has no input `input_ids` or `input_features`")?;
    Ok(Source::Text {
        tokens: Tensor::from_data(tokens.clone(), device),
        padding: padding(inputs, device),
    })
}

/// `[layers, batch, heads, target, source]`
fn cross_attentions(model: &Seq2Seq, states: &[Tensor<3>], memory: &Memory) -> Result<Tensor<5>> {
    let layers = states[..states.len() - 1].iter().enumerate();
    let maps = layers
        .map(|(layer, tokens)| model.cross_attention_probabilities(layer, tokens.clone(), memory));
    Ok(Tensor::stack(maps.collect::<Result<Vec<_>, _>>()?, 0))
}

/// transformers' targets have the start token in front.
fn with_start(rows: Vec<Vec<i64>>, start: i64) -> TensorData {
    let shape = [rows.len(), 1 + rows.iter().map(Vec::len).max().unwrap_or(0)];
    let rows = rows.into_iter().flat_map(|mut row| {
        row.insert(0, start);
        row.resize(shape[1], start);
        row
    });
    TensorData::new(rows.collect::<Vec<i64>>(), shape)
}
