//! Reference models that read real checkpoints. A model is made of [`crate::ops`] and of Burn's
//! own layers; it holds no kernel, and no kernel knows a model.

pub mod checkpoint;
pub mod preprocess;
pub mod resample;
pub mod swin;
pub mod vit;
