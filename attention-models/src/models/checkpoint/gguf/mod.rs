//! GGUF files: a header of typed metadata and quantised tensors, read under the names that
//! Hugging Face's folder of the same model has.

mod blocks;
mod file;
mod llama;

pub use file::{Gguf, Value};
pub(super) use llama::{config, weights};
