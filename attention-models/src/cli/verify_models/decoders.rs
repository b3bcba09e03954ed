//! Decoders.

use std::path::Path;

use anyhow::{Context, Result, bail};
use burn::tensor::{Device, Int, Tensor, TensorData};

use super::{Group, Values};
use crate::models::{
    checkpoint::Checkpoint,
    decoder::Decoder,
    generation::{GenerationConfig, Prompt, generate},
};

pub(super) const GROUP: Group = Group {
    names: &[
        "gpt2",
        "gpt_neox",
        "llama",
        "mistral_sliding",
        "mixtral",
        "qwen2",
        "qwen3",
        "gemma2",
        "gemma3",
        "falcon_mqa",
        "bloom_alibi",
        "mpt_alibi",
        "gpt_oss_sinks",
        "diffllama",
    ],
    compute,
};

/// How many tokens the goldens have after the prompt, no fewer.
const NEW_TOKENS: usize = 8;

fn compute(folder: &Path, inputs: &Values, wanted: &[&str], device: &Device) -> Result<Values> {
    let model = Decoder::load(folder, device)?;
    let ids = inputs.get("input_ids");
    let ids = ids.context("the golden has no input `input_ids`")?;
    let tokens = || Tensor::<2, Int>::from_data(ids.clone(), device);
    let states = model.hidden_states(tokens(), None)?;
    let mut outputs = Values::new();
    for &name in wanted {
        let output = match name {
            "logits" => {
                let last = states.last().context("the model has no hidden state")?;
                model.logits(last.clone()).into_data()
            }
            "hidden_states" => Tensor::stack::<4>(states.clone(), 0).into_data(),
            "attentions" => attentions(&model, tokens(), &states)?.into_data(),
            "logits_padded" => {
                let shown = inputs.get("attention_mask_padded");
                let shown = shown.context("the golden has no input `attention_mask_padded`")?;
                let shown = Tensor::<2, Int>::from_data(shown.clone(), device);
                // What tokens of padding give means nothing.
                let compared = shown.clone().not_equal_elem(0).into_data();
                outputs.insert("logits_padded.compared".into(), compared);
                let padding = shown.equal_elem(0);
                model.try_forward(tokens(), Some(padding))?.into_data()
            }
            "generated_ids" => generated(folder, &model, ids)?,
            _ => bail!("output `{name}` is not known here"),
        };
        outputs.insert(name.into(), output);
    }
    Ok(outputs)
}

/// `[layers, batch, heads, tokens, tokens]`
fn attentions(model: &Decoder, tokens: Tensor<2, Int>, states: &[Tensor<3>]) -> Result<Tensor<5>> {
    let (_, input) = model.start(tokens, None)?;
    let layers = model.layers.iter().zip(states);
    let probabilities =
        layers.map(|(layer, tokens)| layer.attention_probabilities(tokens.clone(), &input));
    Ok(Tensor::stack(probabilities.collect::<Result<_, _>>()?, 0))
}

/// The first sequence and what follows it, greedily.
fn generated(folder: &Path, model: &Decoder, ids: &TensorData) -> Result<TensorData> {
    let length = ids.shape()[1];
    let first: Vec<i64> = ids.iter::<i64>().take(length).collect();
    let file: serde_json::Value = Checkpoint::open(folder)?.config()?;
    let config = GenerationConfig::new(NEW_TOKENS)
        .with_min_new_tokens(NEW_TOKENS)
        .with_end_tokens(file["eos_token_id"].as_i64().into_iter().collect());
    let prompt = Prompt::left_padded(&[first.clone()], 0)?;
    let cache = model.cache(&prompt, NEW_TOKENS)?;
    let new = generate(model, prompt, cache, config)?.concat();
    let all = [first, new].concat();
    let count = all.len();
    Ok(TensorData::new(all, [1, count]))
}
