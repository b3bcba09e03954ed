//! How transformers' `CLIPModel` is read: its two towers lie in one file, each with a configuration
//! of its own.

use std::path::Path;

use burn::module::{Initializer, Module, Param};
use burn::tensor::{Device, Tensor};
use serde::Deserialize;

use super::Clip;
use crate::models::checkpoint::{Checkpoint, CheckpointError, Format, NameTable};
use crate::models::encoder;
use crate::models::vit::VisionTransformer;

const CLASS: &str = "CLIPModel";

/// What belongs to no tower.
#[derive(Module, Debug)]
struct Between {
    logit_scale: Param<Tensor<1>>,
}

const NAMES: NameTable = NameTable {
    prefixes: &[],
    backbone: &[],
    heads: &[],
    ignored: &[
        "text_model.*",
        "text_projection.weight",
        "vision_model.*",
        "visual_projection.weight",
    ],
};

/// The field that both towers share.
#[derive(Debug, Deserialize)]
struct ClipFile {
    projection_dim: usize,
}

pub(super) fn load(folder: &Path, device: &Device) -> Result<Clip, CheckpointError> {
    let checkpoint = Checkpoint::open(folder)?;
    if checkpoint.architecture() != Some(CLASS) {
        return Err(checkpoint.wrong_architecture(vec![CLASS]));
    }
    let ClipFile { projection_dim } = checkpoint.config()?;
    let projection = ("projection_dim", projection_dim.into());
    let text = checkpoint.part("text_config", "CLIPTextModelWithProjection", [projection])?;
    let between = Between {
        logit_scale: Initializer::Zeros.init([1], device),
    };
    let weights = checkpoint.weights()?;
    Ok(Clip {
        vision: VisionTransformer::load(folder, device)?,
        text: encoder::load_checkpoint(&text, device)?,
        logit_scale: weights.load_into(between, &NAMES)?.logit_scale,
        format: Some(checkpoint.format(&weights, &NAMES)),
    })
}

pub(super) fn save(clip: &Clip, folder: &Path) -> Result<(), CheckpointError> {
    let format = Format::of_read(&clip.format, folder)?;
    let vision = Format::of_read(&clip.vision.format, folder)?;
    let text = Format::of_read(&clip.text.format, folder)?;
    let between = Between {
        logit_scale: clip.logit_scale.clone(),
    };
    let parts = [
        format.tensors(&between),
        vision.tensors(&clip.vision),
        text.tensors(&clip.text),
    ];
    format.save_parts(parts, folder)
}
