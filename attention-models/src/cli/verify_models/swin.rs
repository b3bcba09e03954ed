//! Swin Transformers.

use std::path::Path;

use anyhow::{Context, Result, bail};
use burn::tensor::{Device, Tensor, TensorData};

use super::{Group, Values};
use crate::models::swin::{SwinOutput, SwinTransformer};

pub(super) const GROUP: Group = Group {
    names: &["swin", "swinv2"],
    compute,
};

fn compute(folder: &Path, inputs: &Values, wanted: &[&str], device: &Device) -> Result<Values> {
    let model = SwinTransformer::load(folder, device)?;
    let pixels = inputs.get("pixel_values");
    let pixels = pixels.context("the golden has no input `pixel_values`")?;
    let states = model.hidden_states(Tensor::from_data(pixels.clone(), device))?;
    let last = states.last().context("the model has no hidden state")?;
    let computed = Computed {
        output: model.finish(last.clone()),
        model,
        states,
    };
    wanted
        .iter()
        .map(|name| Ok(((*name).to_string(), computed.output(name)?)))
        .collect()
}

/// Everything that a golden may compare, from one run.
struct Computed {
    model: SwinTransformer,
    states: Vec<Tensor<4>>,
    output: SwinOutput,
}

impl Computed {
    fn output(&self, name: &str) -> Result<TensorData> {
        let numbered = name.rsplit_once('.');
        let numbered = numbered.and_then(|(kind, index)| Some((kind, index.parse().ok()?)));
        let state = |index: usize| {
            let state = self.states.get(index).cloned();
            state.with_context(|| format!("the model has no hidden state {index}"))
        };
        Ok(match (name, numbered) {
            ("logits", _) => {
                let logits = self.output.logits.clone();
                logits.context("the model has no head")?.to_data()
            }
            (_, Some(("hidden_states", index))) => {
                let state = state(index)?;
                let [batch, rows, columns, width] = state.dims();
                state.reshape([batch, rows * columns, width]).to_data()
            }
            (_, Some(("reshaped_hidden_states", index))) => {
                state(index)?.permute([0, 3, 1, 2]).to_data()
            }
            (_, Some(("attentions", index))) => {
                let stage = self.model.stages.get(index);
                let stage = stage.with_context(|| format!("the model has no stage {index}"))?;
                let last = stage.blocks.len() - 1;
                stage.window_attention(state(index)?, last)?.to_data()
            }
            _ => bail!("output `{name}` is not known here"),
        })
    }
}
