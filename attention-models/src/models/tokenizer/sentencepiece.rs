//! SentencePiece: text whose spaces are written `▁`, split into pieces by merges or by the most
//! probable path, and the files that it writes.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use serde_json::{Value, json};

use super::bpe::special;
use super::error::invalid;
use super::{Tokenizer, TokenizerError};

/// A piece of the vocabulary, in the order of its numbers.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Piece {
    pub(super) text: String,
    /// The logarithm of its probability, or the rank of its merge.
    pub(super) score: f64,
    pub(super) kind: Kind,
}

/// What a piece stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Text, or a byte, or unused.
    Text,
    /// Text that no piece covers.
    Unknown,
    /// A mark that no text becomes.
    Control,
}

impl Kind {
    /// As SentencePiece and llama.cpp count the kinds.
    pub(super) fn of(number: i64) -> Self {
        match number {
            2 => Self::Unknown,
            3 => Self::Control,
            _ => Self::Text,
        }
    }
}

fn added_tokens(pieces: &[Piece]) -> Vec<Value> {
    pieces
        .iter()
        .enumerate()
        .filter(|(_, piece)| piece.kind != Kind::Text)
        .map(|(id, piece)| special(&piece.text, id as u32))
        .collect()
}

fn unknown(pieces: &[Piece]) -> Option<usize> {
    pieces.iter().position(|piece| piece.kind == Kind::Unknown)
}

/// Llama's: merges in the order of the scores, bytes for what no piece covers.
pub(super) fn merges(
    path: &Path,
    pieces: &[Piece],
    space: bool,
) -> Result<Tokenizer, TokenizerError> {
    let ids: BTreeMap<&str, usize> = pieces
        .iter()
        .enumerate()
        .map(|(id, piece)| (piece.text.as_str(), id))
        .collect();
    let mut merges = Vec::new();
    for (id, piece) in pieces.iter().enumerate() {
        for (at, _) in piece.text.char_indices().skip(1) {
            let (left, right) = piece.text.split_at(at);
            if let (Some(first), Some(second)) = (ids.get(left), ids.get(right)) {
                merges.push((piece.score, id, *first, *second));
            }
        }
    }
    merges.sort_by(|a, b| {
        let by_id = (a.1, a.2, a.3).cmp(&(b.1, b.2, b.3));
        b.0.total_cmp(&a.0).then(by_id)
    });
    let merges: Vec<[&str; 2]> = merges
        .iter()
        .map(|(_, _, left, right)| [pieces[*left].text.as_str(), pieces[*right].text.as_str()])
        .collect();
    let mut normalizers = vec![json!({
        "type": "Replace", "pattern": { "String": " " }, "content": "▁"
    })];
    let mut decoders = vec![
        json!({ "type": "Replace", "pattern": { "String": "▁" }, "content": " " }),
        json!({ "type": "ByteFallback" }),
        json!({ "type": "Fuse" }),
    ];
    if space {
        normalizers.insert(0, json!({ "type": "Prepend", "prepend": "▁" }));
        decoders.push(json!({ "type": "Strip", "content": " ", "start": 1, "stop": 0 }));
    }
    let json = json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": added_tokens(pieces),
        "normalizer": { "type": "Sequence", "normalizers": normalizers },
        "pre_tokenizer": null,
        "post_processor": null,
        "decoder": { "type": "Sequence", "decoders": decoders },
        "model": {
            "type": "BPE",
            "unk_token": unknown(pieces).map(|id| pieces[id].text.as_str()),
            "fuse_unk": true,
            "byte_fallback": true,
            "vocab": ids,
            "merges": merges,
        },
    });
    Tokenizer::from_json(path, &json)
}

/// T5's and Marian's: the most probable pieces.
pub(super) fn unigram(
    path: &Path,
    pieces: &[Piece],
    character_map: &[u8],
) -> Result<Tokenizer, TokenizerError> {
    let vocabulary: Vec<(&str, f64)> = pieces
        .iter()
        .map(|piece| (piece.text.as_str(), piece.score))
        .collect();
    let spaces = json!({
        "type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": true
    });
    let json = json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": added_tokens(pieces),
        "normalizer": null,
        "pre_tokenizer": { "type": "Sequence", "pretokenizers": [
            { "type": "WhitespaceSplit" }, spaces,
        ] },
        "post_processor": null,
        "decoder": spaces,
        "model": { "type": "Unigram", "unk_id": unknown(pieces), "vocab": vocabulary },
    });
    let mut tokenizer = Tokenizer::from_json(path, &json)?;
    if !character_map.is_empty() {
        let map = tokenizers::normalizers::Precompiled::from(character_map)
            .map_err(|error| invalid(path, error))?;
        tokenizer
            .inner
            .with_normalizer(Some(map))
            .map_err(|error| invalid(path, error))?;
    }
    Ok(tokenizer)
}

/// A SentencePiece model file: its pieces, and the map of characters that it normalises by.
pub(super) fn read(path: &Path) -> Result<(Vec<Piece>, Vec<u8>), TokenizerError> {
    let bytes = std::fs::read(path).map_err(|error| TokenizerError::Unreadable {
        path: path.to_path_buf(),
        reason: error.to_string(),
    })?;
    parse(&bytes).ok_or_else(|| invalid(path, "it is not a whole SentencePiece model"))
}

/// The fields of `ModelProto` that are used, by their numbers: 1 the pieces (1 text, 2 score,
/// 3 kind), 3 the normaliser (2 its map).
fn parse(bytes: &[u8]) -> Option<(Vec<Piece>, Vec<u8>)> {
    let mut pieces = Vec::new();
    let mut character_map = Vec::new();
    for (number, field) in fields(bytes)? {
        match (number, field) {
            (1, Field::Bytes(piece)) => pieces.push(parse_piece(piece)?),
            (3, Field::Bytes(normalizer)) => {
                for (number, field) in fields(normalizer)? {
                    if let (2, Field::Bytes(map)) = (number, field) {
                        character_map = map.to_vec();
                    }
                }
            }
            _ => {}
        }
    }
    (!pieces.is_empty()).then_some((pieces, character_map))
}

fn parse_piece(bytes: &[u8]) -> Option<Piece> {
    let mut piece = Piece {
        text: String::new(),
        score: 0.0,
        kind: Kind::Text,
    };
    for (number, field) in fields(bytes)? {
        match (number, field) {
            (1, Field::Bytes(text)) => piece.text = String::from_utf8(text.to_vec()).ok()?,
            (2, Field::Fixed32(bits)) => piece.score = f64::from(f32::from_bits(bits)),
            (3, Field::Number(kind)) => piece.kind = Kind::of(kind as i64),
            _ => {}
        }
    }
    Some(piece)
}

/// A field of a protocol buffer.
enum Field<'a> {
    Number(u64),
    Fixed32(u32),
    Fixed64,
    Bytes(&'a [u8]),
}

/// The fields of a message with their numbers.
fn fields(mut bytes: &[u8]) -> Option<Vec<(u64, Field<'_>)>> {
    let mut fields = Vec::new();
    while !bytes.is_empty() {
        let key = number(&mut bytes)?;
        let field = match key & 7 {
            0 => Field::Number(number(&mut bytes)?),
            1 => {
                bytes = bytes.get(8..)?;
                Field::Fixed64
            }
            2 => {
                let length = usize::try_from(number(&mut bytes)?).ok()?;
                let field = bytes.get(..length)?;
                bytes = &bytes[length..];
                Field::Bytes(field)
            }
            5 => {
                let (bits, rest) = bytes.split_first_chunk::<4>()?;
                bytes = rest;
                Field::Fixed32(u32::from_le_bytes(*bits))
            }
            _ => return None,
        };
        fields.push((key >> 3, field));
    }
    Some(fields)
}

/// A number of seven bits a byte, the lowest first.
fn number(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 127) << shift;
        if byte & 128 == 0 {
            return Some(value);
        }
    }
    None
}

/// The numbers of the pieces by their texts, where another vocabulary gives them.
pub(super) type Numbers = HashMap<String, u32>;

#[cfg(test)]
mod tests {
    use super::*;

    fn message(fields: &[(u8, &[u8])]) -> Vec<u8> {
        let field = |(number, bytes): &(u8, &[u8])| {
            [&[number << 3 | 2, bytes.len() as u8], *bytes].concat()
        };
        fields.iter().flat_map(field).collect()
    }

    fn piece(text: &str, score: f32, kind: u8) -> Vec<u8> {
        let mut piece = message(&[(1, text.as_bytes())]);
        piece.push(2 << 3 | 5);
        piece.extend(score.to_le_bytes());
        piece.extend([3 << 3, kind]);
        piece
    }

    fn model() -> Vec<u8> {
        let pieces = [
            piece("<unk>", 0.0, 2),
            piece("</s>", 0.0, 3),
            piece("▁", -3.0, 1),
            piece("a", -4.0, 1),
            piece("b", -4.0, 1),
            piece("▁ab", -1.0, 1),
        ];
        let fields: Vec<(u8, &[u8])> = pieces.iter().map(|piece| (1, piece.as_slice())).collect();
        message(&fields)
    }

    #[test]
    fn a_sentencepiece_model_gives_its_pieces_and_a_truncated_one_is_refused() {
        let (pieces, map) = parse(&model()).unwrap();
        assert_eq!(pieces.len(), 6);
        assert_eq!(pieces[5].text, "▁ab");
        assert_eq!((pieces[5].score, pieces[5].kind), (-1.0, Kind::Text));
        assert_eq!(
            (pieces[0].kind, pieces[1].kind),
            (Kind::Unknown, Kind::Control)
        );
        assert!(map.is_empty());
        let bytes = model();
        assert!(parse(&bytes[..bytes.len() - 1]).is_none());
    }

    #[test]
    fn the_most_probable_pieces_are_chosen() {
        let (pieces, map) = parse(&model()).unwrap();
        let tokenizer = unigram(Path::new("source.spm"), &pieces, &map).unwrap();
        let encoded = tokenizer.encode("ab ba").unwrap();
        assert_eq!(encoded.tokens, ["▁ab", "▁", "b", "a"]);
        assert_eq!(tokenizer.decode(&encoded.ids).unwrap(), "ab ba");
    }

    #[test]
    fn merges_follow_the_scores() {
        let (mut pieces, _) = parse(&model()).unwrap();
        pieces.push(Piece {
            text: "ab".into(),
            score: -2.0,
            kind: Kind::Text,
        });
        let tokenizer = merges(Path::new("a.gguf"), &pieces, true).unwrap();
        let encoded = tokenizer.encode("ab ba").unwrap();
        assert_eq!(encoded.tokens, ["▁ab", "▁", "b", "a"]);
        assert_eq!(tokenizer.decode(&encoded.ids).unwrap(), "ab ba");
    }
}
