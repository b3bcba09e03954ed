//! Reference models that read real checkpoints. A model is made of [`crate::ops`] and of Burn's
//! own layers; it holds no kernel, and no kernel knows a model.
//!
//! Every `load` takes the path of a folder or file, or the name of a model in a cache
//! ([`checkpoint::find`]); every `save` writes a folder that the library which the model came from reads.

pub mod blocks;
pub mod cache;
mod cast;
pub mod checkpoint;
pub mod clip;
pub mod decoder;
pub mod diffusion;
pub mod encoder;
pub mod generation;
pub mod preprocess;
pub mod resample;
#[cfg(feature = "cube")]
pub mod seq2seq;
pub mod swin;
#[cfg(feature = "tokenizers")]
pub mod tokenizer;
pub mod vit;

pub use cast::cast;
