use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde_json::Value;

use super::gguf::{self, Gguf};
use super::{CheckpointError, Format, NameTable, Weights, find};

/// A model folder whose `config.json` has been read, or a GGUF file whose header has been read.
#[derive(Debug, Clone)]
pub struct Checkpoint {
    files: Files,
    config: Value,
}

#[derive(Debug, Clone)]
enum Files {
    Folder(PathBuf),
    Gguf(Arc<Gguf>),
}

/// What the weights of a folder may be called, the usual first.
const WEIGHTS: [&str; 4] = [
    "model.safetensors",
    "diffusion_pytorch_model.safetensors",
    "model.fp16.safetensors",
    "diffusion_pytorch_model.fp16.safetensors",
];

impl Checkpoint {
    /// Reads `config.json` of a folder, or the header of a GGUF file; a folder without
    /// `config.json` may hold one GGUF file.
    ///
    /// A GGUF file has the configuration and the names that Hugging Face's folder of the same
    /// model has; its architecture may be `llama`, `qwen2` or `qwen3`.
    ///
    /// # Errors
    ///
    /// [`CheckpointError::Unreadable`] when there is no such file, [`CheckpointError::Config`]
    /// when it does not say what it must, [`CheckpointError::Weights`] when a GGUF file is not
    /// whole.
    pub fn open(place: impl AsRef<Path>) -> Result<Self, CheckpointError> {
        let path = find(place)?;
        if path.is_file() {
            return Self::open_gguf(&path);
        }
        let config = path.join("config.json");
        match only_gguf(&path) {
            Some(file) if !config.exists() => Self::open_gguf(&file),
            _ => Ok(Self {
                config: read_json(&config)?,
                files: Files::Folder(path),
            }),
        }
    }

    fn open_gguf(path: &Path) -> Result<Self, CheckpointError> {
        let file = Gguf::open(path)?;
        Ok(Self {
            config: gguf::config(&file)?,
            files: Files::Gguf(Arc::new(file)),
        })
    }

    /// The class that wrote the folder: the first of `architectures` (transformers), else
    /// `_class_name` (diffusers), else `timm_class`.
    pub fn architecture(&self) -> Option<&str> {
        [
            &self.config["architectures"][0],
            &self.config["_class_name"],
            &self.config["timm_class"],
        ]
        .into_iter()
        .find_map(Value::as_str)
    }

    /// The GGUF file, if it is one.
    pub fn gguf(&self) -> Option<&Gguf> {
        match &self.files {
            Files::Folder(_) => None,
            Files::Gguf(file) => Some(file),
        }
    }

    /// The one of `families` that reads the folder's class, each known by its classes.
    ///
    /// # Errors
    ///
    /// [`CheckpointError::Architecture`] with the classes of all.
    pub fn family<'a, F>(
        &self,
        families: &[&'a F],
        classes: impl Fn(&F) -> &'static [&'static str],
    ) -> Result<&'a F, CheckpointError> {
        let class = self.architecture();
        let reads = |family: &&&F| class.is_some_and(|class| classes(family).contains(&class));
        families.iter().find(reads).copied().ok_or_else(|| {
            let accepted = families.iter().flat_map(|family| classes(family));
            self.wrong_architecture(accepted.copied().collect())
        })
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

    /// The part of a model that has its own configuration in `field`, as CLIP's towers have, as a
    /// folder of `class` with the same weights; `more` fields are added to that configuration.
    ///
    /// # Errors
    ///
    /// [`CheckpointError::Config`] when there is no such field.
    pub fn part<const N: usize>(
        &self,
        field: &str,
        class: &str,
        more: [(&str, Value); N],
    ) -> Result<Self, CheckpointError> {
        let Some(part) = self.config[field].as_object() else {
            return Err(self.invalid_config(format!("missing field `{field}`")));
        };
        let mut part = part.clone();
        part.insert("architectures".into(), vec![class].into());
        part.extend(more.map(|(field, value)| (field.to_string(), value)));
        Ok(Self {
            config: Value::Object(part),
            files: self.files.clone(),
        })
    }

    /// The error for a configuration that parses and makes no sense.
    pub fn invalid_config(&self, reason: impl std::fmt::Display) -> CheckpointError {
        CheckpointError::Config {
            path: self.config_path(),
            reason: reason.to_string(),
        }
    }

    /// Opens the weights: `model.safetensors` or diffusers' `diffusion_pytorch_model.safetensors`,
    /// whole or in shards under `*.safetensors.index.json`, or those of the GGUF file. Tensors
    /// are read when a module takes them.
    ///
    /// # Errors
    ///
    /// [`CheckpointError::Unreadable`] or [`CheckpointError::Weights`]; for a GGUF file also
    /// [`CheckpointError::Tensors`] with all that have a type that is not read here.
    pub fn weights(&self) -> Result<Weights, CheckpointError> {
        let folder = match &self.files {
            Files::Folder(folder) => folder,
            Files::Gguf(file) => return gguf::weights(file),
        };
        for name in WEIGHTS {
            let (whole, index) = (folder.join(name), folder.join(format!("{name}.index.json")));
            if whole.exists() {
                return Weights::open(&whole);
            }
            if index.exists() {
                return Weights::open_shards(&index);
            }
        }
        Weights::open(&folder.join(WEIGHTS[0]))
    }

    /// How to write a module back as a folder of this kind, with the names, the shapes and the
    /// fused parts of these weights.
    pub fn format(&self, weights: &Weights, names: &NameTable) -> Format {
        let format = Format::new(self.config.clone(), *names);
        weights.describe(format)
    }

    fn config_path(&self) -> PathBuf {
        match &self.files {
            Files::Folder(folder) => folder.join("config.json"),
            Files::Gguf(file) => file.path().to_path_buf(),
        }
    }
}

/// Reads a JSON file.
pub(super) fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T, CheckpointError> {
    let text = std::fs::read(path).map_err(|error| CheckpointError::Unreadable {
        path: path.to_path_buf(),
        reason: error.to_string(),
    })?;
    serde_json::from_slice(&text).map_err(|error| CheckpointError::Config {
        path: path.to_path_buf(),
        reason: error.to_string(),
    })
}

/// The GGUF file of a folder that holds exactly one.
fn only_gguf(folder: &Path) -> Option<PathBuf> {
    let mut files = std::fs::read_dir(folder)
        .ok()?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|ending| ending == "gguf"));
    let file = files.next()?;
    files.next().is_none().then_some(file)
}
