use std::collections::HashMap;
use std::path::Path;

use super::sentencepiece::{self, Numbers};
use super::{Tokenizer, TokenizerError, error};

/// The tokenizer of a translation model of Marian: two SentencePiece models split the two
/// languages, one `vocab.json` numbers the pieces of both.
#[derive(Debug, Clone)]
pub struct MarianTokenizer {
    source: Tokenizer,
    numbers: Numbers,
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
    pub fn load(folder: &Path) -> Result<Self, TokenizerError> {
        let path = folder.join("source.spm");
        let (pieces, character_map) = sentencepiece::read(&path)?;
        let source = sentencepiece::unigram(&path, &pieces, &character_map)?;
        let path = folder.join("vocab.json");
        let numbers: Numbers = error::read_json(&path)?;
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

    /// The numbers of a text, and of its end.
    ///
    /// # Errors
    ///
    /// [`TokenizerError::Text`] for a text that cannot be split.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, TokenizerError> {
        let pieces = self.source.encode_plain(text)?.tokens;
        let number = |piece: &String| self.numbers.get(piece).copied().unwrap_or(self.unknown);
        Ok(pieces.iter().map(number).chain([self.end]).collect())
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
