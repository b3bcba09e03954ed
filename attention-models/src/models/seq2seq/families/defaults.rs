//! How a checkpoint generates: `generation_config.json`, or in older folders the same fields of `config.json`.

use std::path::Path;

use serde::Deserialize;

use super::super::GenerationDefaults;
use crate::models::checkpoint::{Checkpoint, CheckpointError};

/// The fields that are read.
#[derive(Debug, Default, Deserialize)]
struct File {
    decoder_start_token_id: Option<i64>,
    eos_token_id: Option<OneOrMore>,
    pad_token_id: Option<i64>,
    forced_bos_token_id: Option<i64>,
    forced_eos_token_id: Option<i64>,
    bad_words_ids: Option<Vec<Vec<i64>>>,
    suppress_tokens: Option<Vec<i64>>,
    max_length: Option<usize>,
    num_beams: Option<usize>,
    length_penalty: Option<f64>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum OneOrMore {
    One(i64),
    More(Vec<i64>),
}

pub(super) fn defaults(
    folder: &Path,
    checkpoint: &Checkpoint,
) -> Result<GenerationDefaults, CheckpointError> {
    let path = folder.join("generation_config.json");
    let older: File = checkpoint.config()?;
    let file: File = match std::fs::read(&path) {
        Ok(text) => serde_json::from_slice(&text).map_err(|error| CheckpointError::Config {
            path,
            reason: error.to_string(),
        })?,
        Err(_) => File::default(),
    };
    let otherwise = GenerationDefaults::default();
    let pad = file.pad_token_id.or(older.pad_token_id).unwrap_or(0);
    let words = file
        .bad_words_ids
        .or(older.bad_words_ids)
        .unwrap_or_default();
    let words = words.into_iter().filter(|word| word.len() == 1).flatten();
    let tokens = file
        .suppress_tokens
        .or(older.suppress_tokens)
        .unwrap_or_default();
    let tokens = tokens.into_iter().filter(|token| *token >= 0);
    Ok(GenerationDefaults {
        start_token: file
            .decoder_start_token_id
            .or(older.decoder_start_token_id)
            .unwrap_or(pad),
        end_tokens: match file.eos_token_id.or(older.eos_token_id) {
            Some(OneOrMore::One(token)) => vec![token],
            Some(OneOrMore::More(tokens)) => tokens,
            None => Vec::new(),
        },
        pad_token: pad,
        forced_first: file.forced_bos_token_id.or(older.forced_bos_token_id),
        forced_last: file.forced_eos_token_id.or(older.forced_eos_token_id),
        suppressed: words.chain(tokens).collect(),
        // `max_length` counts the start token.
        max_new_tokens: file
            .max_length
            .or(older.max_length)
            .map_or(otherwise.max_new_tokens, |length| length.saturating_sub(1)),
        beams: file
            .num_beams
            .or(older.num_beams)
            .unwrap_or(otherwise.beams),
        length_penalty: file
            .length_penalty
            .or(older.length_penalty)
            .unwrap_or(otherwise.length_penalty),
    })
}
