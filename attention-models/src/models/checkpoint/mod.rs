//! Reading and writing models: folders as Hugging Face's transformers and diffusers and as timm
//! write them (`config.json` beside safetensors, whole or in shards), and GGUF files.
//!
//! A family of models says in a short [`NameTable`] what its files call the parts of a module.
//! Every tensor is compared before any is used, and what does not fit is reported by the file's
//! own names, all at once. A [`Format`] writes a module back by the same table.

mod error;
mod find;
mod folder;
mod format;
mod gguf;
mod names;
mod place;
mod view;
mod weights;

pub use error::{CheckpointError, TensorProblem};
pub(crate) use find::cache_folder;
pub use find::find;
pub use folder::Checkpoint;
pub use format::Format;
pub use gguf::{Gguf, Value as GgufValue};
pub use names::{HeadLayout, NameTable, Projection, Source};
pub use weights::Weights;
