//! `MarianMTModel` of transformers: the Opus-MT translators.

use serde::Deserialize;

use super::super::{Seq2SeqConfig, SequencePositions};
use super::{
    Family,
    bart::{BACKBONE, File},
};
use crate::models::checkpoint::{Checkpoint, CheckpointError, NameTable, Source::Whole, Weights};

pub(super) const FAMILY: Family = Family {
    classes: &["MarianMTModel"],
    config,
    names: NameTable {
        prefixes: &["model."],
        backbone: &BACKBONE,
        heads: &[("logits_bias", Whole("final_logits_bias"))],
        ignored: &[
            "encoder.embed_tokens.weight",
            "decoder.embed_tokens.weight",
            "encoder.embed_positions.weight",
            "decoder.embed_positions.weight",
            "lm_head.weight",
        ],
    },
};

#[derive(Debug, Deserialize)]
struct Sharing {
    #[serde(default = "yes")]
    share_encoder_decoder_embeddings: bool,
}

fn yes() -> bool {
    true
}

fn config(checkpoint: &Checkpoint, weights: &Weights) -> Result<Seq2SeqConfig, CheckpointError> {
    let file: File = checkpoint.config()?;
    if !checkpoint
        .config::<Sharing>()?
        .share_encoder_decoder_embeddings
    {
        let reason = "`share_encoder_decoder_embeddings` is false; accepted: true";
        return Err(checkpoint.invalid_config(reason));
    }
    let positions = Some(file.max_position_embeddings.unwrap_or(1024));
    Ok(file
        .sizes(positions, positions)
        .with_positions(SequencePositions::Sinusoidal { interleaved: false })
        .with_logits_bias(weights.contains("final_logits_bias")))
}
