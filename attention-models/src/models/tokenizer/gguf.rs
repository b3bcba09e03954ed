//! The tokenizer that a GGUF file carries.

use std::path::{Path, PathBuf};

use super::bpe::{self, Words};
use super::sentencepiece::{self, Kind, Piece};
use super::{Tokenizer, TokenizerError};
use crate::models::checkpoint::{CheckpointError, Gguf, GgufValue};

/// The GGUF file of a folder that holds exactly one.
pub(super) fn only_file(folder: &Path) -> Option<PathBuf> {
    let mut files = std::fs::read_dir(folder)
        .ok()?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|ending| ending == "gguf"));
    let file = files.next()?;
    files.next().is_none().then_some(file)
}

/// Reads the tokenizer of a GGUF file: byte-pair encodings of bytes (`gpt2`), SentencePiece's by
/// merges (`llama`) and by probabilities (`t5`).
pub(super) fn load(path: &Path) -> Result<Tokenizer, TokenizerError> {
    let file = Gguf::open(path)?;
    let mut tokenizer = match file.text("tokenizer.ggml.model")? {
        "gpt2" => bytes(&file)?,
        "llama" => {
            let space = flag(&file, "add_space_prefix").unwrap_or(true);
            sentencepiece::merges(path, &pieces(&file)?, space)?
        }
        "t5" => sentencepiece::unigram(path, &pieces(&file)?, &character_map(&file)?)?,
        other => {
            return Err(file
                .invalid(format!(
                    "`tokenizer.ggml.model` is {other}; accepted: gpt2, llama, t5"
                ))
                .into());
        }
    };
    if let Ok(padding) = file.count("tokenizer.ggml.padding_token_id") {
        tokenizer.padding = padding as u32;
    }
    tokenizer.template = file
        .text("tokenizer.chat_template")
        .ok()
        .map(str::to_string);
    around(&file, &mut tokenizer)?;
    Ok(tokenizer)
}

fn bytes(file: &Gguf) -> Result<Tokenizer, TokenizerError> {
    let name = match file.value("tokenizer.ggml.pre") {
        None => "default",
        Some(_) => file.text("tokenizer.ggml.pre")?,
    };
    let Some((_, words)) = Words::NAMES.iter().find(|(known, _)| *known == name) else {
        let accepted = Words::NAMES.map(|(known, _)| known).join(", ");
        return Err(file
            .invalid(format!(
                "`tokenizer.ggml.pre` is {name}; accepted: {accepted}"
            ))
            .into());
    };
    let pieces = pieces(file)?;
    let special = pieces
        .iter()
        .enumerate()
        .filter(|(_, piece)| piece.kind != Kind::Text)
        .map(|(id, piece)| bpe::special(&piece.text, id as u32))
        .collect();
    let merges = file
        .texts("tokenizer.ggml.merges")?
        .into_iter()
        .map(|line| {
            bpe::split_merge(line)
                .ok_or_else(|| file.invalid(format!("`{line}` is no merge of two tokens")))
        })
        .collect::<Result<Vec<_>, CheckpointError>>()?;
    let vocabulary = pieces
        .into_iter()
        .enumerate()
        .map(|(id, piece)| (piece.text, id as u32))
        .collect();
    let json = bpe::gpt2(&vocabulary, &merges, *words, special);
    Tokenizer::from_json(file.path(), &json)
}

/// The tokens with what the file knows about them.
fn pieces(file: &Gguf) -> Result<Vec<Piece>, TokenizerError> {
    let texts = file.texts("tokenizer.ggml.tokens")?;
    let numbers = |key: &str| match file.value(key) {
        None => Ok(&[][..]),
        Some(_) => file.list(key),
    };
    let kinds = numbers("tokenizer.ggml.token_type")?;
    let scores = numbers("tokenizer.ggml.scores")?;
    let piece = |(id, text): (usize, &str)| Piece {
        text: text.to_string(),
        score: match scores.get(id) {
            Some(GgufValue::Float(score)) => *score,
            _ => 0.0,
        },
        kind: match kinds.get(id) {
            Some(GgufValue::Integer(kind)) => Kind::of(*kind),
            _ => Kind::Text,
        },
    };
    Ok(texts.into_iter().enumerate().map(piece).collect())
}

fn character_map(file: &Gguf) -> Result<Vec<u8>, TokenizerError> {
    let key = "tokenizer.ggml.precompiled_charsmap";
    if file.value(key).is_none() {
        return Ok(Vec::new());
    }
    let byte = |value: &GgufValue| match value {
        GgufValue::Integer(byte) => Some(*byte as u8),
        _ => None,
    };
    let bytes: Option<Vec<u8>> = file.list(key)?.iter().map(byte).collect();
    bytes.ok_or_else(|| {
        file.invalid(format!("`{key}` holds other values than bytes"))
            .into()
    })
}

fn flag(file: &Gguf, name: &str) -> Option<bool> {
    match file.value(&format!("tokenizer.ggml.{name}")) {
        Some(GgufValue::Bool(flag)) => Some(*flag),
        _ => None,
    }
}

/// The tokens that the file asks to put around a text.
fn around(file: &Gguf, tokenizer: &mut Tokenizer) -> Result<(), TokenizerError> {
    let spm = file.text("tokenizer.ggml.model")? == "llama";
    let t5 = file.text("tokenizer.ggml.model")? == "t5";
    let token = |wanted: bool, name: &str| -> Result<Option<(String, u32)>, TokenizerError> {
        if !wanted {
            return Ok(None);
        }
        let id = file.count(&format!("tokenizer.ggml.{name}_token_id"))? as u32;
        let text = tokenizer.token(id);
        let text = text.ok_or_else(|| file.invalid(format!("no token has the number {id}")))?;
        Ok(Some((text, id)))
    };
    let before = token(flag(file, "add_bos_token").unwrap_or(spm), "bos")?;
    let after = token(flag(file, "add_eos_token").unwrap_or(t5), "eos")?;
    if before.is_none() && after.is_none() {
        return Ok(());
    }
    let text = [before.as_ref().map(|(text, _)| text.as_str()), Some("$A")];
    let text = text
        .into_iter()
        .chain([after.as_ref().map(|(text, _)| text.as_str())]);
    let template: Vec<&str> = text.flatten().collect();
    let special: Vec<(String, u32)> = [before.clone(), after.clone()]
        .into_iter()
        .flatten()
        .collect();
    let processor = tokenizers::processors::template::TemplateProcessing::builder()
        .try_single(template)
        .map_err(|error| file.invalid(error))?
        .special_tokens(special)
        .build()
        .map_err(|error| file.invalid(error))?;
    tokenizer.inner.with_post_processor(Some(processor));
    Ok(())
}
