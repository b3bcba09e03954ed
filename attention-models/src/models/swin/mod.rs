//! The Swin Transformer: attention within windows of a grid of patches, which shift from block to
//! block, and a grid that gets coarser from stage to stage (Liu et al. 2021,
//! <https://arxiv.org/abs/2103.14030>); and version 2, with cosine attention, a continuous position
//! bias and norms after the branches (Liu et al. 2022, <https://arxiv.org/abs/2111.09883>).
//!
//! Windows are a mask written as code, on the tokens of the whole image as they lie: nothing is cut
//! into windows, rolled or copied, and a shifted window needs no mask of its own beside that. A
//! block map skips what the mask leaves empty.
//!
//! ```no_run
//! use attention_models::models::swin::SwinTransformer;
//! use burn::tensor::{Device, Tensor};
//!
//! let device = Device::flex();
//! let model = SwinTransformer::load("swin-tiny-patch4-window7-224", &device)?;
//! let photo = Tensor::<4>::zeros([1, 3, 224, 224], &device);
//! let logits = model.forward(photo.clone()).logits; // [1, 1000]
//! let features = model.hidden_states(photo)?; // [1, 56, 56, 96], then each stage's output
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod attention;
mod block;
mod config;
mod cosine;
mod embeddings;
mod families;
mod merging;
mod model;
mod windows;

pub use attention::WindowAttention;
pub use block::SwinBlock;
pub use config::{SwinConfig, SwinVersion};
pub use cosine::CosineAttention;
pub use embeddings::SwinEmbeddings;
pub use merging::PatchMerging;
pub use model::{SwinOutput, SwinStage, SwinTransformer};
