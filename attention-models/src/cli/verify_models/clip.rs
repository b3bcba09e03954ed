//! CLIP's towers together.

use std::path::Path;

use anyhow::{Context, Result, bail};
use burn::tensor::{Device, Tensor, TensorData};

use super::{Group, Values};
use crate::models::clip::{Clip, ClipOutput};
use crate::models::encoder::EncoderInput;

pub(super) const GROUP: Group = Group {
    names: &["clip"],
    compute,
};

fn compute(folder: &Path, inputs: &Values, wanted: &[&str], device: &Device) -> Result<Values> {
    let model = Clip::load(folder, device)?;
    let input = |name: &str| {
        let input = inputs.get(name).cloned();
        input.with_context(|| format!("the golden has no input `{name}`"))
    };
    let pixels = Tensor::from_data(input("pixel_values")?, device);
    let tokens = Tensor::from_data(input("input_ids")?, device);
    let output = model.try_forward(pixels, EncoderInput::new(tokens))?;
    wanted
        .iter()
        .map(|name| Ok(((*name).to_string(), value(&output, name)?)))
        .collect()
}

fn value(output: &ClipOutput, name: &str) -> Result<TensorData> {
    Ok(match name {
        "image_embeds" => output.image_embeds.to_data(),
        "text_embeds" => output.text_embeds.to_data(),
        "logits_per_image" => output.logits_per_image.to_data(),
        _ => bail!("output `{name}` is not known here"),
    })
}
