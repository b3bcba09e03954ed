//! `WhisperForConditionalGeneration` of transformers.

use serde::Deserialize;

use super::super::{AttentionBias, Seq2SeqConfig, SequencePositions};
use super::{
    Family,
    bart::{BACKBONE, File},
};
use crate::models::checkpoint::{Checkpoint, CheckpointError, NameTable, Weights};
use crate::models::encoder::NormPlacement;

pub(super) const FAMILY: Family = Family {
    classes: &["WhisperForConditionalGeneration"],
    config,
    names: NameTable {
        prefixes: &["model."],
        backbone: &BACKBONE,
        heads: &[],
        ignored: &["proj_out.weight"],
    },
};

#[derive(Debug, Deserialize)]
struct Lengths {
    num_mel_bins: usize,
    max_source_positions: usize,
    max_target_positions: usize,
}

fn config(checkpoint: &Checkpoint, _weights: &Weights) -> Result<Seq2SeqConfig, CheckpointError> {
    let (file, lengths): (File, Lengths) = (checkpoint.config()?, checkpoint.config()?);
    let source = Some(lengths.max_source_positions);
    let target = Some(lengths.max_target_positions);
    Ok(file
        .sizes(source, target)
        .with_audio_channels(Some(lengths.num_mel_bins))
        .with_positions(SequencePositions::Learned { first: 0 })
        .with_norm_placement(NormPlacement::Before)
        .with_final_norm(true)
        .with_attention_bias(AttentionBias::ExceptKey))
}
