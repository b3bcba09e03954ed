//! Reading a model folder: `config.json` beside `model.safetensors`, as Hugging Face writes them.
//!
//! A family of models says in a short [`NameTable`] what its files call the parts of a module.
//! Every tensor is compared before any is used, and what does not fit is reported by the file's
//! own names, all at once.

mod error;
mod folder;
mod names;
mod place;
mod view;
mod weights;

pub use error::{CheckpointError, TensorProblem};
pub use folder::Checkpoint;
pub use names::{HeadLayout, NameTable, Projection, Source};
pub use weights::Weights;
