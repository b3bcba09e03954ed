//! Byte-pair encodings of bytes: CLIP's and GPT-2's, out of `vocab.json` and `merges.txt`, and
//! the relatives of GPT-2 that GGUF files name.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Value, json};

use super::error::{invalid, read_json, read_text};
use super::{Tokenizer, TokenizerError};

/// Two tokens and what they become is all that a file of merges says.
type Merges = Vec<(String, String)>;

/// What CLIP puts before and after a text.
const CLIP_START: &str = "<|startoftext|>";
const CLIP_END: &str = "<|endoftext|>";

/// Tokens that a text encoder of CLIP reads.
const CLIP_LENGTH: usize = 77;

/// Reads `vocab.json` and `merges.txt` of a folder: CLIP's where the vocabulary has CLIP's first
/// token, GPT-2's otherwise.
pub(super) fn load(folder: &Path) -> Result<Tokenizer, TokenizerError> {
    let path = folder.join("vocab.json");
    let vocabulary: BTreeMap<String, u32> = read_json(&path)?;
    let merges_path = folder.join("merges.txt");
    let merges = read_text(&merges_path)?
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with("#version"))
        .map(|line| split_merge(line).ok_or_else(|| invalid(&merges_path, line)))
        .collect::<Result<Merges, _>>()?;
    let json = if vocabulary.contains_key(CLIP_START) {
        clip(&vocabulary, &merges).ok_or_else(|| invalid(&path, format!("no `{CLIP_END}`")))?
    } else {
        let special = special_tokens(vocabulary.iter().map(|(token, id)| (token.as_str(), *id)));
        gpt2(&vocabulary, &merges, Words::Gpt2, special)
    };
    Tokenizer::from_json(&path, &json)?.with_folder(folder)
}

/// `a b` is two tokens.
pub(super) fn split_merge(line: &str) -> Option<(String, String)> {
    let (left, right) = line.trim_end().split_once(' ')?;
    Some((left.to_string(), right.to_string()))
}

/// Text in small letters, words apart, the last token of a word marked.
fn clip(vocabulary: &BTreeMap<String, u32>, merges: &Merges) -> Option<Value> {
    let (start, end) = (vocabulary[CLIP_START], *vocabulary.get(CLIP_END)?);
    let word = r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+";
    Some(json!({
        "version": "1.0",
        "truncation": { "max_length": CLIP_LENGTH, "strategy": "LongestFirst", "stride": 0 },
        "padding": null,
        "added_tokens": [special(CLIP_START, start), special(CLIP_END, end)],
        "normalizer": { "type": "Sequence", "normalizers": [
            { "type": "NFC" },
            { "type": "Replace", "pattern": { "Regex": r"\s+" }, "content": " " },
            { "type": "Lowercase" },
        ] },
        "pre_tokenizer": { "type": "Sequence", "pretokenizers": [
            { "type": "Split", "pattern": { "Regex": word }, "behavior": "Removed", "invert": true },
            byte_level(true),
        ] },
        "post_processor": {
            "type": "RobertaProcessing",
            "sep": [CLIP_END, end],
            "cls": [CLIP_START, start],
            "trim_offsets": false,
            "add_prefix_space": false,
        },
        "decoder": byte_level(true),
        "model": {
            "type": "BPE",
            "unk_token": CLIP_END,
            "continuing_subword_prefix": "",
            "end_of_word_suffix": "</w>",
            "fuse_unk": false,
            "vocab": vocabulary,
            "merges": merges,
        },
    }))
}

/// How text is cut into words before the merges, as llama.cpp names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Words {
    /// GPT-2's words.
    Gpt2,
    /// GPT-2's words, each digit apart.
    SmolLm,
    /// Llama 3's words: up to three digits together; a word that is a token is not merged.
    Llama3,
    /// Qwen 2's words, each digit apart.
    Qwen2,
}

impl Words {
    /// The names in `tokenizer.ggml.pre`.
    pub(super) const NAMES: [(&str, Self); 5] = [
        ("default", Self::Gpt2),
        ("gpt-2", Self::Gpt2),
        ("smollm", Self::SmolLm),
        ("llama-bpe", Self::Llama3),
        ("qwen2", Self::Qwen2),
    ];

    fn pre_tokenizer(self) -> Value {
        let sequence = |first: Value, regex: bool| json!({ "type": "Sequence", "pretokenizers": [first, byte_level(regex)] });
        let split = |digits: &str| {
            let words = format!(
                r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}{digits}| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
            );
            let pattern = json!({ "Regex": words });
            json!({ "type": "Split", "pattern": pattern, "behavior": "Isolated", "invert": false })
        };
        match self {
            Self::Gpt2 => byte_level(true),
            Self::SmolLm => sequence(json!({ "type": "Digits", "individual_digits": true }), true),
            Self::Llama3 => sequence(split("{1,3}"), false),
            Self::Qwen2 => sequence(split(""), false),
        }
    }
}

/// GPT-2's tokenizer and its relatives: every byte has a letter, spaces belong to the next word.
pub(super) fn gpt2(
    vocabulary: &BTreeMap<String, u32>,
    merges: &Merges,
    words: Words,
    special: Vec<Value>,
) -> Value {
    let normalizer = match words {
        Words::Qwen2 => json!({ "type": "NFC" }),
        _ => Value::Null,
    };
    json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": special,
        "normalizer": normalizer,
        "pre_tokenizer": words.pre_tokenizer(),
        "post_processor": null,
        "decoder": byte_level(true),
        "model": {
            "type": "BPE",
            "fuse_unk": false,
            "ignore_merges": words == Words::Llama3,
            "vocab": vocabulary,
            "merges": merges,
        },
    })
}

/// The tokens between `<|` and `|>`, in the order of their numbers.
fn special_tokens<'a>(vocabulary: impl Iterator<Item = (&'a str, u32)>) -> Vec<Value> {
    let mut tokens: Vec<_> = vocabulary
        .filter(|(token, _)| token.starts_with("<|") && token.ends_with("|>"))
        .collect();
    tokens.sort_by_key(|(_, id)| *id);
    let tokens = tokens.into_iter();
    tokens.map(|(token, id)| special(token, id)).collect()
}

/// An entry of `added_tokens`: a token that text is never split into.
pub(super) fn special(token: &str, id: u32) -> Value {
    json!({
        "id": id,
        "content": token,
        "single_word": false,
        "lstrip": false,
        "rstrip": false,
        "normalized": false,
        "special": true,
    })
}

fn byte_level(use_regex: bool) -> Value {
    json!({
        "type": "ByteLevel",
        "add_prefix_space": false,
        "trim_offsets": true,
        "use_regex": use_regex,
    })
}
