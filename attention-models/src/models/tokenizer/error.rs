use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;

use crate::models::checkpoint::CheckpointError;

/// Why a tokenizer, or a text, was refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TokenizerError {
    /// The folder has no tokenizer of a kind that is known here.
    #[error(
        "`{}` has no tokenizer; accepted: `tokenizer.json`, or `vocab.json` with `merges.txt`, or \
         a GGUF file",
        path.display()
    )]
    NotFound {
        /// The folder.
        path: PathBuf,
    },
    /// A file cannot be read.
    #[error("`{}` cannot be read: {reason}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        reason: String,
    },
    /// A file does not describe a tokenizer.
    #[error("`{}` is not a usable tokenizer: {reason}", path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A GGUF file is not whole, or lacks a part of the tokenizer.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// A text cannot be split, or tokens are no text.
    #[error("the text cannot be converted: {reason}")]
    Text {
        /// What is wrong with it.
        reason: String,
    },
    /// There is no chat template, or one of an unknown kind.
    #[error("no chat template can be used: {reason}")]
    Template {
        /// Why.
        reason: String,
    },
}

pub(super) fn read_text(path: &Path) -> Result<String, TokenizerError> {
    std::fs::read_to_string(path).map_err(|error| TokenizerError::Unreadable {
        path: path.to_path_buf(),
        reason: error.to_string(),
    })
}

pub(super) fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T, TokenizerError> {
    serde_json::from_str(&read_text(path)?).map_err(|error| invalid(path, error))
}

pub(super) fn invalid(path: &Path, reason: impl std::fmt::Display) -> TokenizerError {
    TokenizerError::Invalid {
        path: path.to_path_buf(),
        reason: reason.to_string(),
    }
}

pub(super) fn of_text(reason: impl std::fmt::Display) -> TokenizerError {
    TokenizerError::Text {
        reason: reason.to_string(),
    }
}
