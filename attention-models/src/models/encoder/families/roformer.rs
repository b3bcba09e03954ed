//! `RoFormerModel` of transformers; the head of its training is left out.

use serde::Deserialize;

use super::super::{EncoderConfig, Positions};
use super::{Family, bert, hugging_face::HuggingFaceConfig};
use crate::models::blocks::RotaryPairs;
use crate::models::checkpoint::{Checkpoint, CheckpointError, NameTable, Weights};

pub(super) const FAMILY: Family = Family {
    classes: &["RoFormerModel", "RoFormerForMaskedLM"],
    config,
    names: NameTable {
        prefixes: &["roformer."],
        backbone: &bert::BACKBONE,
        heads: &[],
        ignored: &["encoder.embed_positions.weight", "cls.*"],
    },
};

#[derive(Debug, Deserialize)]
struct RotaryValue {
    #[serde(default)]
    rotary_value: bool,
}

fn config(checkpoint: &Checkpoint, _weights: &Weights) -> Result<EncoderConfig, CheckpointError> {
    let file: HuggingFaceConfig = checkpoint.config()?;
    if checkpoint.config::<RotaryValue>()?.rotary_value {
        return Err(checkpoint.invalid_config("`rotary_value` is true; accepted: false"));
    }
    let projected = file.embedding_size.filter(|size| *size != file.hidden_size);
    Ok(file
        .sizes()
        .with_embedding_size(projected)
        .with_positions(Positions::Rotary {
            pairs: RotaryPairs::Interleaved,
            theta: 10_000.0,
        }))
}
