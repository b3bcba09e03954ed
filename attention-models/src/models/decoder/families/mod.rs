//! How the checkpoints of each family are read: what their configuration says about the sizes, and
//! what their files call the parts of a [`Decoder`]. One file per family.

mod bloom;
mod diffllama;
mod falcon;
mod fields;
mod gemma;
mod gpt2;
mod gpt_neox;
mod gpt_oss;
mod llama;
mod made;
mod mixtral;
mod mpt;

use std::path::Path;

use burn::tensor::Device;

use super::{Decoder, DecoderConfig};
use crate::models::checkpoint::{Checkpoint, CheckpointError, HeadLayout, NameTable};
use fields::Fields;
pub(super) use made::llama_format;

/// The classes whose folders one table of names covers.
struct Family {
    /// As `architectures` in `config.json`.
    classes: &'static [&'static str],
    config: fn(&Fields) -> Result<DecoderConfig, CheckpointError>,
    names: NameTable,
}

const FAMILIES: [&Family; 10] = [
    &gpt2::FAMILY,
    &gpt_neox::FAMILY,
    &llama::FAMILY,
    &mixtral::FAMILY,
    &gemma::FAMILY,
    &falcon::FAMILY,
    &bloom::FAMILY,
    &mpt::FAMILY,
    &gpt_oss::FAMILY,
    &diffllama::FAMILY,
];

pub(super) fn load(folder: &Path, device: &Device) -> Result<Decoder, CheckpointError> {
    let checkpoint = Checkpoint::open(folder)?;
    let family = checkpoint.family(&FAMILIES, |family| family.classes)?;
    let config = (family.config)(&Fields::new(&checkpoint)?)?;
    let model = config
        .try_init(device)
        .map_err(|error| checkpoint.invalid_config(error))?;
    let mut weights = checkpoint.weights()?;
    if let Some(layer) = config.layers.first() {
        weights = weights.with_heads(HeadLayout {
            heads: layer.attention.heads,
            kv_heads: layer.attention.kv_heads(),
        });
    }
    let mut model = weights.load_into(model, &family.names)?;
    model.format = Some(checkpoint.format(&weights, &family.names));
    Ok(model)
}
