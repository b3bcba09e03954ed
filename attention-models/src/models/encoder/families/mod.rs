//! How the checkpoints of each family are read: what their configuration says about the sizes, and what their files
//! call the parts of an [`Encoder`] or [`Deberta`]. One file per family.

mod albert;
mod bert;
mod clip_text;
mod deberta;
mod hugging_face;
mod modernbert;
mod roformer;

pub(super) use deberta::load as load_deberta;

use std::path::Path;

use burn::tensor::Device;

use super::{Encoder, EncoderConfig};
use crate::models::checkpoint::{Checkpoint, CheckpointError, NameTable, Weights};

/// The classes whose folders one table of names covers.
struct Family {
    /// As `architectures` in `config.json`.
    classes: &'static [&'static str],
    /// The sizes; what a file has or lacks may decide about optional parts.
    config: fn(&Checkpoint, &Weights) -> Result<EncoderConfig, CheckpointError>,
    names: NameTable,
}

const FAMILIES: [&Family; 5] = [
    &bert::FAMILY,
    &albert::FAMILY,
    &roformer::FAMILY,
    &modernbert::FAMILY,
    &clip_text::FAMILY,
];

pub(super) fn load(folder: &Path, device: &Device) -> Result<Encoder, CheckpointError> {
    load_checkpoint(&Checkpoint::open(folder)?, device)
}

/// The encoder of a folder that is open, or of a part of one: the text tower of a whole CLIP.
///
/// # Errors
///
/// Those of [`Encoder::load`].
pub fn load_checkpoint(
    checkpoint: &Checkpoint,
    device: &Device,
) -> Result<Encoder, CheckpointError> {
    let family = checkpoint.family(&FAMILIES, |family| family.classes)?;
    let weights = checkpoint.weights()?;
    let config = (family.config)(checkpoint, &weights)?;
    let model = config
        .try_init(device)
        .map_err(|error| checkpoint.invalid_config(error))?;
    let mut model = weights.load_into(model, &family.names)?;
    model.format = Some(checkpoint.format(&weights, &family.names));
    Ok(model)
}
