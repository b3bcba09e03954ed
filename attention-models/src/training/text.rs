use std::path::Path;

use super::TrainingError;

/// The part of a text that is held out: the last tenth.
const HELD_OUT: usize = 10;
/// Characters of a text that is worth training on.
const SHORTEST: usize = 1000;

/// A text as numbers of characters.
#[derive(Debug, Clone)]
pub struct Text {
    characters: Vec<u8>,
    alphabet: Vec<char>,
}

impl Text {
    /// Reads `input.txt` of a folder, as `cargo xtask data fetch shakespeare` writes it.
    ///
    /// # Errors
    ///
    /// [`TrainingError::File`] for a file that is not there, [`TrainingError::Data`] for one that
    /// [`new`](Self::new) refuses, or that is not UTF-8.
    pub fn load(folder: &Path) -> Result<Self, TrainingError> {
        let path = folder.join("input.txt");
        let bytes = std::fs::read(&path).map_err(|error| {
            let reason = format!("{error}; to fetch it: cargo xtask data fetch shakespeare");
            TrainingError::file(&path, reason)
        })?;
        let text = String::from_utf8(bytes).map_err(|error| TrainingError::data(&path, error))?;
        Self::new(&text).map_err(|reason| TrainingError::data(&path, reason))
    }

    /// A text of at least 1000 characters, at most 256 different ones.
    ///
    /// # Errors
    ///
    /// What is wrong with it.
    pub fn new(text: &str) -> Result<Self, String> {
        let mut alphabet: Vec<char> = text.chars().collect();
        let length = alphabet.len();
        alphabet.sort_unstable();
        alphabet.dedup();
        if length < SHORTEST {
            return Err(format!(
                "{length} characters; accepted: at least {SHORTEST}"
            ));
        }
        if alphabet.len() > 256 {
            let different = alphabet.len();
            return Err(format!(
                "{different} different characters; accepted: at most 256"
            ));
        }
        let number = |character| alphabet.partition_point(|other| *other < character) as u8;
        Ok(Self {
            characters: text.chars().map(number).collect(),
            alphabet,
        })
    }

    /// The different characters; a character's number is its place among them.
    pub fn alphabet(&self) -> &[char] {
        &self.alphabet
    }

    /// What is trained on.
    pub fn train(&self) -> &[u8] {
        &self.characters[..self.characters.len() - self.characters.len() / HELD_OUT]
    }

    /// What is not.
    pub fn held_out(&self) -> &[u8] {
        &self.characters[self.train().len()..]
    }
}
