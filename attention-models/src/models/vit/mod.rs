//! The Vision Transformer: an image is cut into patches, each becomes a token, a class token is
//! put in front, and a stack of pre-norm Transformer layers attends over all of them
//! (Dosovitskiy et al. 2021, <https://arxiv.org/abs/2010.11929>).
//!
//! One module covers [ViT](https://arxiv.org/abs/2010.11929),
//! [DeiT](https://arxiv.org/abs/2012.12877) (distillation token),
//! [DINOv2](https://arxiv.org/abs/2304.07193) (LayerScale), also
//! [with registers](https://arxiv.org/abs/2309.16588),
//! [BEiT](https://arxiv.org/abs/2106.08254) (relative positions), the vision tower of
//! [CLIP](https://arxiv.org/abs/2103.00020) and timm's `VisionTransformer`; `families` says how
//! their checkpoints are read.
//!
//! ```no_run
//! use attention_models::models::vit::VisionTransformer;
//! use burn::tensor::{Device, Tensor};
//!
//! let device = Device::flex();
//! let model = VisionTransformer::load("dinov2_s14", &device)?;
//! let photo = Tensor::<4>::zeros([1, 3, 224, 224], &device);
//! let features = model.forward(photo.clone()).last_hidden_state; // [1, 1 + 16 * 16, 384]
//! let maps = model.class_attention(photo, 11)?; // [1, 6, 257]
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod attention_map;
mod config;
mod embeddings;
mod families;
mod layer;
mod model;
mod position_table;

pub use config::{Activation, FinalNorm, Head, RelativePositions, VisionTransformerConfig};
pub use embeddings::Embeddings;
pub use layer::{AttentionRows, EncoderLayer, Mlp};
pub use model::{VisionTransformer, VisionTransformerOutput};
pub use position_table::PositionTable;
