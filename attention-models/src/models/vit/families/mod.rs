//! How the checkpoints of each family are read: what their configuration says about the sizes,
//! and what their files call the parts of a [`VisionTransformer`]. One file per family.

mod beit;
mod clip;
mod deit;
mod dinov2;
mod hugging_face;
mod timm;
mod vit;

use std::path::Path;

use burn::tensor::Device;

use super::{VisionTransformer, VisionTransformerConfig};
use crate::models::checkpoint::{Checkpoint, CheckpointError, NameTable, Weights};

pub(super) use vit::format as vit_format;

/// The classes whose folders one table of names covers.
struct Family {
    /// As `architectures` in `config.json`, or `timm_class`.
    classes: &'static [&'static str],
    /// The sizes; what a file has or lacks may decide about optional parts.
    config: fn(&Checkpoint, &Weights) -> Result<VisionTransformerConfig, CheckpointError>,
    names: NameTable,
}

const FAMILIES: [&Family; 7] = [
    &vit::FAMILY,
    &deit::FAMILY,
    &deit::WITH_TEACHER,
    &dinov2::FAMILY,
    &beit::FAMILY,
    &clip::FAMILY,
    &timm::FAMILY,
];

pub(super) fn load(folder: &Path, device: &Device) -> Result<VisionTransformer, CheckpointError> {
    let checkpoint = Checkpoint::open(folder)?;
    if checkpoint.architecture() == Some(clip::BOTH_TOWERS) {
        return load_checkpoint(&clip::tower(&checkpoint)?, device);
    }
    load_checkpoint(&checkpoint, device)
}

fn load_checkpoint(
    checkpoint: &Checkpoint,
    device: &Device,
) -> Result<VisionTransformer, CheckpointError> {
    let family = FAMILIES
        .iter()
        .find(|family| {
            let class = checkpoint.architecture();
            class.is_some_and(|class| family.classes.contains(&class))
        })
        .ok_or_else(|| {
            let accepted = FAMILIES.iter().flat_map(|family| family.classes);
            let accepted = accepted.copied().chain([clip::BOTH_TOWERS]);
            checkpoint.wrong_architecture(accepted.collect())
        })?;
    let weights = checkpoint.weights()?;
    let config = (family.config)(checkpoint, &weights)?;
    let model = config
        .try_init(device)
        .map_err(|error| checkpoint.invalid_config(error))?;
    let mut model = weights.load_into(model, &family.names)?;
    model.format = Some(checkpoint.format(&weights, &family.names));
    Ok(model)
}
