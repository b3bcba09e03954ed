use std::collections::HashMap;
use std::path::Path;

use crate::models::checkpoint::find;

use super::{Tokenizer, TokenizerError, error, sentencepiece};

/// The tokenizer of a translation model of Marian: two SentencePiece models split the two
/// languages, one `vocab.json` numbers the pieces of both.
#[derive(Debug, Clone)]
pub struct MarianTokenizer {
    source: Tokenizer,
    numbers: HashMap<String, u32>,
    pieces: HashMap<u32, String>,
    unknown: u32,
    end: u32,
}

const UNKNOWN: &str = "<unk>";
const END: &str = "</s>";
const PADDING: &str = "<pad>";

impl MarianTokenizer {
    /// Reads `source.spm` and `vocab.json` of a folder.
    ///
    /// # Errors
    ///
    /// [`TokenizerError`]: a file that is missing or damaged, or a vocabulary without the tokens
    /// for the unknown and for the end of a text.
    pub fn load(place: impl AsRef<Path>) -> Result<Self, TokenizerError> {
        let folder = find(place)?;
        let path = folder.join("source.spm");
        let (pieces, character_map) = sentencepiece::read(&path)?;
        let source = sentencepiece::unigram(&path, &pieces, &character_map)?;
        let path = folder.join("vocab.json");
        let numbers: HashMap<String, u32> = error::read_json(&path)?;
        let number = |token: &str| {
            let found = numbers.get(token).copied();
            found.ok_or_else(|| error::invalid(&path, format!("it has no `{token}`")))
        };
        Ok(Self {
            source,
            unknown: number(UNKNOWN)?,
            end: number(END)?,
            pieces: numbers
                .iter()
                .map(|(piece, number)| (*number, piece.clone()))
                .collect(),
            numbers,
        })
    }

    /// The numbers of a text, and of its end. A text may begin with the language that it is to be
    /// translated into, as `>>fra<<`, for models of several.
    ///
    /// # Errors
    ///
    /// [`TokenizerError::Text`] for a text that cannot be split.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, TokenizerError> {
        let (language, text) = match text.split_once("<<") {
            Some((code, text)) if code.starts_with(">>") => (Some(format!("{code}<<")), text),
            _ => (None, text),
        };
        let pieces = self.source.encode_plain(text)?.tokens;
        let pieces = language.into_iter().chain(pieces);
        let number = |piece: String| self.numbers.get(&piece).copied().unwrap_or(self.unknown);
        Ok(pieces.map(number).chain([self.end]).collect())
    }

    /// The text of a translation, without the tokens around it.
    pub fn decode(&self, ids: &[u32]) -> String {
        let pieces = ids.iter().filter_map(|id| self.pieces.get(id));
        let text: String = pieces
            .filter(|piece| ![UNKNOWN, END, PADDING].contains(&piece.as_str()))
            .map(String::as_str)
            .collect();
        text.replace('▁', " ").trim().to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_have_the_numbers_of_the_vocabulary_and_a_language_comes_first() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(
            folder.path().join("source.spm"),
            sentencepiece::tests::model(),
        )
        .unwrap();
        let vocabulary = r#"{"</s>": 0, "<unk>": 1, "▁ab": 2, "a": 3, "b": 4, "▁": 5, "<pad>": 6, ">>fra<<": 7}"#;
        std::fs::write(folder.path().join("vocab.json"), vocabulary).unwrap();
        let tokenizer = MarianTokenizer::load(folder.path()).unwrap();
        assert_eq!(tokenizer.encode("ab ba").unwrap(), [2, 5, 4, 3, 0]);
        assert_eq!(tokenizer.encode(">>fra<< ab").unwrap(), [7, 2, 0]);
        assert_eq!(tokenizer.decode(&[6, 2, 5, 4, 3, 0]), "ab ba");
        std::fs::write(folder.path().join("vocab.json"), "{}").unwrap();
        let error = MarianTokenizer::load(folder.path()).unwrap_err();
        assert!(error.to_string().contains("it has no `<unk>`"), "{error}");
    }
}
