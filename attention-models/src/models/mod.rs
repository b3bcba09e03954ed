//! Reference models that read real checkpoints. A model is made of [`crate::ops`] and of Burn's
//! own layers; it holds no kernel, and no kernel knows a model.

pub mod checkpoint;
pub mod diffusion;
pub mod preprocess;
pub mod resample;
#[cfg(feature = "tokenizers")]
pub mod tokenizer;
pub mod vit;
