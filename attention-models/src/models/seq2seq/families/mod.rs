//! How the checkpoints of each family are read: what their configuration says about the sizes, and what their files
//! call the parts of a [`Seq2Seq`]. One file per family.

mod bart;
mod defaults;
mod marian;
mod t5;
mod whisper;

use std::path::Path;

use burn::tensor::Device;

use super::{Seq2Seq, Seq2SeqConfig};
use crate::models::checkpoint::{Checkpoint, CheckpointError, NameTable, Weights};
use defaults::defaults;

/// The classes whose folders one table of names covers.
struct Family {
    /// As `architectures` in `config.json`.
    classes: &'static [&'static str],
    /// The sizes; what a file has or lacks may decide about optional parts.
    config: fn(&Checkpoint, &Weights) -> Result<Seq2SeqConfig, CheckpointError>,
    names: NameTable,
}

const FAMILIES: [&Family; 4] = [
    &t5::FAMILY,
    &marian::FAMILY,
    &bart::FAMILY,
    &whisper::FAMILY,
];

pub(super) fn load(folder: &Path, device: &Device) -> Result<Seq2Seq, CheckpointError> {
    let checkpoint = Checkpoint::open(folder)?;
    let family = checkpoint.family(&FAMILIES, |family| family.classes)?;
    let weights = checkpoint.weights()?;
    let config = (family.config)(&checkpoint, &weights)?;
    let config = config.with_generation(defaults(folder, &checkpoint)?);
    let model = config
        .try_init(device)
        .map_err(|error| checkpoint.invalid_config(error))?;
    let mut model = weights.load_into(model, &family.names)?;
    model.format = Some(checkpoint.format(&weights, &family.names));
    Ok(model)
}
