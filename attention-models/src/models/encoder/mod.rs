//! Transformer encoders of text: every token sees every other, or, in CLIP, those before it.
//!
//! One [`Encoder`] of small blocks covers [BERT](https://arxiv.org/abs/1810.04805),
//! [ALBERT](https://arxiv.org/abs/1909.11942) (layers share weights),
//! [RoFormer](https://arxiv.org/abs/2104.09864) (rotary positions),
//! [ModernBERT](https://arxiv.org/abs/2412.13663) (most layers see a window; gated MLPs) and the text tower of
//! [CLIP](https://arxiv.org/abs/2103.00020) (causal). [`Deberta`] is
//! [DeBERTa-v2 and v3](https://arxiv.org/abs/2006.03654), whose attention is another. `families` says how their
//! checkpoints are read.
//!
//! ```no_run
//! use attention_models::models::encoder::{Encoder, EncoderInput};
//! use burn::tensor::{Device, Tensor};
//!
//! let device = Device::flex();
//! let model = Encoder::load("all-MiniLM-L6-v2", &device)?;
//! let tokens = Tensor::from_data([[101, 1037, 4937, 102]], &device);
//! let embedding = model.forward(EncoderInput::new(tokens)).mean(); // [1, 384]
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod attending;
#[cfg(feature = "cube")]
mod by_distance;
mod config;
mod deberta;
mod disentangled;
mod embeddings;
mod families;
mod input;
mod layer;
mod model;

pub use config::{EncoderConfig, LocalLayers, NormPlacement, Pooling, Positions};
pub(in crate::models) use config::{check_heads, check_sizes};
pub use deberta::{Deberta, DebertaConfig, DebertaLayer};
pub use disentangled::DisentangledAttention;
pub use embeddings::TextEmbeddings;
pub use families::load_checkpoint;
pub use input::{EncoderInput, EncoderOutput};
pub(in crate::models) use input::{check_length, check_tokens};
pub use layer::EncoderLayer;
pub use model::Encoder;
