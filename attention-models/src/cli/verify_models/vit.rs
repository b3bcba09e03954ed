//! Vision Transformers.

use std::{collections::BTreeMap, path::Path};

use anyhow::{Context, Result, bail};
use burn::tensor::{Device, Tensor, TensorData};

use super::{Group, Values};
use crate::models::vit::{VisionTransformer, VisionTransformerOutput};

pub(super) const GROUP: Group = Group {
    names: &[
        "vit",
        "deit",
        "dinov2",
        "beit",
        "clip_vision",
        "timm_vit",
        "dinov2_s14",
    ],
    compute,
};

/// An input `pixel_values_SIZE` belongs to the outputs `*_SIZE`.
fn compute(folder: &Path, inputs: &Values, wanted: &[&str], device: &Device) -> Result<Values> {
    let model = VisionTransformer::load(folder, device)?;
    let mut outputs = Values::new();
    for (suffix, wanted) in by_suffix(inputs, wanted)? {
        let pixels = ["pixel_values", "x"].map(|name| inputs.get(&format!("{name}{suffix}")));
        let pixels = pixels.into_iter().flatten().next();
        let pixels = pixels.context("the golden has no input `pixel_values` or `x`")?;
        let computed = Computed::new(&model, Tensor::from_data(pixels.clone(), device))?;
        for name in wanted {
            outputs.insert(format!("{name}{suffix}"), computed.output(name)?);
        }
    }
    Ok(outputs)
}

/// The suffix of each input, and the outputs that belong to it, without.
fn by_suffix<'a>(
    inputs: &'a Values,
    wanted: &[&'a str],
) -> Result<BTreeMap<&'a str, Vec<&'a str>>> {
    let suffix = |name: &'a String| name.strip_prefix("pixel_values").or(name.strip_prefix('x'));
    let suffixes: Vec<_> = inputs.keys().filter_map(suffix).collect();
    let mut outputs = BTreeMap::<_, Vec<_>>::new();
    for name in wanted {
        let own = suffixes.iter().filter(|suffix| name.ends_with(**suffix));
        let own = own.max_by_key(|suffix| suffix.len());
        let suffix = *own.context("the golden has no input `pixel_values` or `x`")?;
        outputs
            .entry(suffix)
            .or_default()
            .push(&name[..name.len() - suffix.len()]);
    }
    Ok(outputs)
}

/// Everything that a golden may compare, from one run.
struct Computed<'a> {
    model: &'a VisionTransformer,
    states: Vec<Tensor<3>>,
    output: VisionTransformerOutput,
}

impl<'a> Computed<'a> {
    fn new(model: &'a VisionTransformer, pixels: Tensor<4>) -> Result<Self> {
        let states = model.hidden_states(pixels)?;
        let last = states.last().context("the model has no hidden state")?;
        Ok(Self {
            model,
            output: model.finish(last.clone()),
            states,
        })
    }

    fn output(&self, name: &str) -> Result<TensorData> {
        let logits = || self.output.logits.clone().context("the model has no head");
        let part = |index: usize| {
            let parts = self.output.distillation.clone();
            Ok::<_, anyhow::Error>(
                parts.context("the model has no distillation head")?[index].clone(),
            )
        };
        Ok(match name {
            "last_hidden_state" | "features" => self.output.last_hidden_state.to_data(),
            "pooler_output" => self.output.pooled.to_data(),
            "logits" | "image_embeds" => logits()?.to_data(),
            "cls_logits" => part(0)?.to_data(),
            "distillation_logits" => part(1)?.to_data(),
            "hidden_states" => Tensor::stack::<4>(self.states.clone(), 0).to_data(),
            "attentions" => self.attentions().to_data(),
            _ => match name.strip_prefix("hidden_").map(str::parse::<usize>) {
                Some(Ok(layer)) if layer < self.states.len() => self.states[layer].to_data(),
                _ => bail!("output `{name}` is not known here"),
            },
        })
    }

    /// `[layers, batch, heads, tokens, tokens]`
    fn attentions(&self) -> Tensor<5> {
        let layers = self.model.layers.iter().zip(&self.states);
        let probabilities = layers.map(|(layer, tokens)| {
            let length = tokens.dims()[1];
            layer
                .attention_rows(tokens.clone(), self.model.position_table.as_ref())
                .probabilities(0..length)
        });
        Tensor::stack(probabilities.collect(), 0)
    }
}
