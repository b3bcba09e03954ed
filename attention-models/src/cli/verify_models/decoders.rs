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
        "smollm2_135m",
    ],
    compute,
};

/// How many tokens the goldens have after the prompt, no fewer.
const NEW_TOKENS: usize = 8;
/// How many tokens SmolLM2's answer has at most.
const ANSWER_TOKENS: usize = 24;
/// How many tokens SmolLM2's story goes on for at most.
const STORY_TOKENS: usize = 32;

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
            "generated_ids" if wanted.contains(&"story_ids") => {
                followed(folder, &model, ids, ANSWER_TOKENS)?
            }
            "generated_ids" => generated(folder, &model, ids)?,
            "story_ids" => {
                let story = inputs.get("story_ids");
                let story = story.context("the golden has no input `story_ids`")?;
                followed(folder, &model, story, STORY_TOKENS)?
            }
            "hidden_1" => states[1].clone().into_data(),
            "last_hidden_state" | "logits_last" | "argmax" => {
                let last = states.last().context("the model has no hidden state")?;
                let logits = || model.logits(last.clone()).squeeze_dim::<2>(0);
                match name {
                    "last_hidden_state" => last.clone().into_data(),
                    "argmax" => logits().argmax(1).flatten::<1>(0, 1).into_data(),
                    _ => {
                        let end = last.dims()[1];
                        logits()
                            .slice_dim(0, end - 1..end)
                            .flatten::<1>(0, 1)
                            .into_data()
                    }
                }
            }
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

/// The first sequence and what follows it, greedily, to the last of the tokens.
fn generated(folder: &Path, model: &Decoder, ids: &TensorData) -> Result<TensorData> {
    let config = config(folder, NEW_TOKENS)?.with_min_new_tokens(NEW_TOKENS);
    follow(model, ids, config)
}

/// As [`generated`], to the token that ends it.
fn followed(folder: &Path, model: &Decoder, ids: &TensorData, new: usize) -> Result<TensorData> {
    follow(model, ids, config(folder, new)?)
}

fn config(folder: &Path, new: usize) -> Result<GenerationConfig> {
    let file: serde_json::Value = Checkpoint::open(folder)?.config()?;
    let end = file["eos_token_id"].as_i64();
    Ok(GenerationConfig::new(new).with_end_tokens(end.into_iter().collect()))
}

fn follow(model: &Decoder, ids: &TensorData, config: GenerationConfig) -> Result<TensorData> {
    let length = ids.shape()[1];
    let first: Vec<i64> = ids.iter::<i64>().take(length).collect();
    let prompt = Prompt::left_padded(std::slice::from_ref(&first), 0)?;
    let cache = model.cache(&prompt, config.max_new_tokens)?;
    let new = generate(model, prompt, cache, config)?.concat();
    let all = [first, new].concat();
    let count = all.len();
    Ok(TensorData::new(all, [1, count]))
}
