//! Conformance of the reference models: what other people's code computed from the same weights
//! and inputs.

use std::{collections::BTreeMap, path::Path};

use anyhow::{Context, Result, bail, ensure};
use burn::tensor::{Device, Tensor, TensorData};

use crate::models::{
    checkpoint::Weights,
    vit::{VisionTransformer, VisionTransformerOutput},
};

/// The largest error that passes, relative to the largest value of the golden output.
const BOUND: f64 = 1e-4;

/// One compared output.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// The output's name in the golden.
    pub name: String,
    /// The type in which the model ran.
    pub dtype: &'static str,
    /// The largest error, relative to the largest value of the golden output.
    pub worst_error: f64,
    /// The largest error that passes.
    pub bound: f64,
}

impl Row {
    /// Whether the error is within the bound.
    pub fn passes(&self) -> bool {
        self.worst_error.is_finite() && self.worst_error <= self.bound
    }
}

/// Runs the Vision Transformer of a golden folder (`config.json`, `model.safetensors`,
/// `io.safetensors` with `in.*` and `out.*`) and compares every output.
///
/// # Errors
///
/// A folder that cannot be read, or an output that is not known here.
pub fn check_model_golden(folder: &Path, device: &Device) -> Result<Vec<Row>> {
    let golden = Golden::open(&folder.join("io.safetensors"))?;
    golden.check(&VisionTransformer::load(folder, device)?, device)
}

/// Compares a pretrained Vision Transformer, whose weights lie in `weights`, with the inputs and
/// outputs in `golden`.
///
/// # Errors
///
/// As [`check_model_golden`].
pub fn check_pretrained_golden(golden: &Path, weights: &Path, device: &Device) -> Result<Vec<Row>> {
    Golden::open(golden)?.check(&VisionTransformer::load(weights, device)?, device)
}

/// Inputs and outputs. An input `in.pixel_values_SIZE` belongs to the outputs `out.*_SIZE`.
struct Golden(BTreeMap<String, TensorData>);

impl Golden {
    fn open(path: &Path) -> Result<Self> {
        Ok(Self(Weights::open(path)?.data()?))
    }

    fn check(&self, model: &VisionTransformer, device: &Device) -> Result<Vec<Row>> {
        let mut rows = Vec::new();
        for (suffix, input) in self.inputs() {
            let outputs = self.outputs(suffix);
            ensure!(
                !outputs.is_empty(),
                "the golden has no output for `in.*{suffix}`"
            );
            let computed = Computed::new(model, Tensor::from_data(input.clone(), device))?;
            for (name, expected) in outputs {
                let given = computed.output(name)?;
                rows.push(Row {
                    name: format!("{name}{suffix}"),
                    dtype: "f32",
                    worst_error: relative_error(&given, expected)
                        .with_context(|| format!("output `{name}{suffix}`"))?,
                    bound: BOUND,
                });
            }
        }
        ensure!(
            !rows.is_empty(),
            "the golden has no input `in.pixel_values` or `in.x`"
        );
        Ok(rows)
    }

    /// Images, each with the suffix of its outputs.
    fn inputs(&self) -> Vec<(&str, &TensorData)> {
        let inputs = self.0.iter().filter_map(|(name, data)| {
            let name = name.strip_prefix("in.")?;
            let suffix = name.strip_prefix("pixel_values");
            Some((suffix.or_else(|| name.strip_prefix("x"))?, data))
        });
        inputs.collect()
    }

    /// The outputs that belong to the input with this suffix, without it.
    fn outputs(&self, suffix: &str) -> Vec<(&str, &TensorData)> {
        let others: Vec<_> = self.inputs().iter().map(|(other, _)| *other).collect();
        let belongs_to_another = |name: &str| {
            others
                .iter()
                .any(|other| other.len() > suffix.len() && name.ends_with(other))
        };
        self.0
            .iter()
            .filter_map(|(name, data)| {
                let name = name.strip_prefix("out.")?;
                (!belongs_to_another(name)).then_some(())?;
                Some((name.strip_suffix(suffix)?, data))
            })
            .collect()
    }
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
                .attention_rows(tokens.clone())
                .probabilities(0..length)
        });
        Tensor::stack(probabilities.collect(), 0)
    }
}

/// The largest difference over the largest expected value; infinite where a value is not a number.
fn relative_error(given: &TensorData, expected: &TensorData) -> Result<f64> {
    ensure!(
        given.shape() == expected.shape(),
        "its shape is {:?}; expected: {:?}",
        given.shape(),
        expected.shape()
    );
    let (given, expected) = (given.as_slice::<f32>()?, expected.as_slice::<f32>()?);
    let largest = expected
        .iter()
        .fold(0.0f64, |max, x| max.max(f64::from(x.abs())));
    let errors = given
        .iter()
        .zip(expected)
        .map(|(given, expected)| (f64::from(*given) - f64::from(*expected)).abs());
    let worst = errors.fold(0.0f64, |worst, error| {
        if error.is_nan() {
            f64::INFINITY
        } else {
            worst.max(error)
        }
    });
    Ok(worst / largest.max(f64::MIN_POSITIVE))
}
