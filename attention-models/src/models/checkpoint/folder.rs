use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;

use super::{CheckpointError, Weights};

/// A model folder whose `config.json` has been read.
#[derive(Debug, Clone)]
pub struct Checkpoint {
    folder: PathBuf,
    config: serde_json::Value,
}

impl Checkpoint {
    /// Reads `config.json` of `folder`.
    ///
    /// # Errors
    ///
    /// [`CheckpointError::Unreadable`] when there is no such file, [`CheckpointError::Config`]
    /// when it is not JSON.
    pub fn open(folder: &Path) -> Result<Self, CheckpointError> {
        let path = folder.join("config.json");
        let text = std::fs::read(&path).map_err(|error| CheckpointError::Unreadable {
            path: path.clone(),
            reason: error.to_string(),
        })?;
        let config = serde_json::from_slice(&text).map_err(|error| CheckpointError::Config {
            path,
            reason: error.to_string(),
        })?;
        Ok(Self {
            folder: folder.to_path_buf(),
            config,
        })
    }

    /// The class that wrote the folder: the first of `architectures` (transformers), else
    /// `timm_class`, else `_class_name` (diffusers).
    pub fn architecture(&self) -> Option<&str> {
        self.config["architectures"][0]
            .as_str()
            .or_else(|| self.config["timm_class"].as_str())
            .or_else(|| self.config["_class_name"].as_str())
    }

    /// The error for a folder of another architecture than those accepted.
    pub fn wrong_architecture(&self, accepted: Vec<&'static str>) -> CheckpointError {
        let found = match (self.architecture(), self.config["model_type"].as_str()) {
            (Some(class), _) => format!("the architecture {class}"),
            (None, Some(kind)) => format!("a model of type {kind} without `architectures`"),
            (None, None) => "no architecture".to_string(),
        };
        CheckpointError::Architecture {
            path: self.config_path(),
            found,
            accepted,
        }
    }

    /// The configuration as a type.
    ///
    /// # Errors
    ///
    /// [`CheckpointError::Config`] naming the field that is missing or has another type.
    pub fn config<T: DeserializeOwned>(&self) -> Result<T, CheckpointError> {
        T::deserialize(&self.config).map_err(|error| self.invalid_config(error))
    }

    /// The error for a configuration that parses and makes no sense.
    pub fn invalid_config(&self, reason: impl std::fmt::Display) -> CheckpointError {
        CheckpointError::Config {
            path: self.config_path(),
            reason: reason.to_string(),
        }
    }

    /// Opens `model.safetensors`; its tensors are read when a module takes them.
    ///
    /// # Errors
    ///
    /// [`CheckpointError::Unreadable`] or [`CheckpointError::Weights`].
    pub fn weights(&self) -> Result<Weights, CheckpointError> {
        Weights::open(&self.folder.join("model.safetensors"))
    }

    fn config_path(&self) -> PathBuf {
        self.folder.join("config.json")
    }
}
