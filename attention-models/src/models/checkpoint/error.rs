use std::path::PathBuf;

/// Why a model folder was refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CheckpointError {
    /// There is no such folder or file, and no model of that name.
    #[error(
        "there is no model `{}`; accepted: a folder or file that exists, or the name of a model that \
         was fetched, as by `cargo xtask models fetch` (looked for: {})",
        given.display(),
        looked.iter().map(|path| format!("`{}`", path.display())).collect::<Vec<_>>().join(", ")
    )]
    NotFound {
        /// The path or name.
        given: PathBuf,
        /// Where a model of that name would have been.
        looked: Vec<PathBuf>,
    },
    /// A file of the folder is absent or cannot be read.
    #[error(
        "`{}` cannot be read ({reason}); accepted: a folder with `config.json` and \
         `model.safetensors` (diffusers: `diffusion_pytorch_model.safetensors`), whole or in \
         shards, or a GGUF file",
        path.display()
    )]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        reason: String,
    },
    /// A JSON file does not say what it must.
    #[error("`{}` is not a usable configuration: {reason}", path.display())]
    Config {
        /// The file.
        path: PathBuf,
        /// The field and what is wrong with it.
        reason: String,
    },
    /// The folder holds a model of another architecture.
    #[error("`{}` describes {found}; accepted: {}", path.display(), accepted.join(", "))]
    Architecture {
        /// The folder's `config.json`.
        path: PathBuf,
        /// The architecture that the file names.
        found: String,
        /// The architectures that can be read here.
        accepted: Vec<&'static str>,
    },
    /// The weights are truncated or are no safetensors or GGUF file.
    #[error("`{}` is not a whole {format} file: {reason}", path.display())]
    Weights {
        /// The file.
        path: PathBuf,
        /// `safetensors` or `GGUF`.
        format: &'static str,
        /// What the reader said.
        reason: String,
    },
    /// A file cannot be written.
    #[error("`{}` cannot be written: {reason}", path.display())]
    Unwritable {
        /// The file or folder.
        path: PathBuf,
        /// What the operating system said.
        reason: String,
    },
    /// Tensors are missing, unknown, of another shape, or unreadable.
    #[error(
        "`{}` does not fit the model its `config.json` describes:{}",
        path.display(),
        problems.iter().map(|problem| format!("\n  {problem}")).collect::<String>()
    )]
    Tensors {
        /// The weights file.
        path: PathBuf,
        /// Everything that does not fit, in the order of the model.
        problems: Vec<TensorProblem>,
    },
}

/// One tensor that does not fit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TensorProblem {
    /// The model needs it and the file lacks it.
    #[error("`{name}` is missing; accepted: shape {accepted:?}")]
    Missing {
        /// The name that the file should have.
        name: String,
        /// The shape that the model needs.
        accepted: Vec<usize>,
    },
    /// The file has it and the model has no use for it.
    #[error("`{name}` of shape {given:?} is not part of the model")]
    Extra {
        /// The name in the file.
        name: String,
        /// The shape in the file.
        given: Vec<usize>,
    },
    /// The shapes disagree.
    #[error("`{name}` has shape {given:?}; accepted: {accepted:?}")]
    Shape {
        /// The name in the file.
        name: String,
        /// The shape in the file.
        given: Vec<usize>,
        /// The shape that the model needs.
        accepted: Vec<usize>,
    },
    /// The data cannot be used, for example because its type is no floating-point type.
    #[error("`{name}` cannot be used: {reason}")]
    Data {
        /// The name in the file.
        name: String,
        /// What is wrong.
        reason: String,
    },
}
