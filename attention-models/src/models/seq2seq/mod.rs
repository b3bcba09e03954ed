//! Encoder-decoders: an encoder reads a source, a decoder writes a target token by token and attends to the source.
//!
//! One [`Seq2Seq`] of small blocks covers the Transformer of
//! [Vaswani et al. 2017](https://arxiv.org/abs/1706.03762), which is what a plain [`Seq2SeqConfig`] makes,
//! [T5](https://arxiv.org/abs/1910.10683) (relative positions, unscaled attention, RMSNorm),
//! [Marian](https://arxiv.org/abs/1804.00344) (translation), [BART](https://arxiv.org/abs/1910.13461) (learned
//! positions) and [Whisper](https://arxiv.org/abs/2212.04356) (the source is sound); `families` says how their
//! checkpoints are read.
//!
//! ```no_run
//! use attention_models::models::seq2seq::{Seq2Seq, Source};
//! use burn::tensor::{Device, Tensor};
//!
//! let device = Device::flex();
//! let model = Seq2Seq::load("opus-mt-en-de", &device)?;
//! let source = Source::text(Tensor::from_data([[10, 20, 30, 0]], &device));
//! let target = model.generate(source, &model.config().generation.greedy())?; // Vec<Vec<i64>>
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod audio;
mod config;
mod families;
mod generation;
mod layer;
mod model;
mod positions;
mod relative;
mod source;
mod stack;

pub use audio::AudioFrontEnd;
pub use config::{AttentionBias, Seq2SeqConfig, SequencePositions, StackConfig};
pub use generation::{GenerationDefaults, Seq2SeqState};
pub use layer::Seq2SeqLayer;
pub use model::Seq2Seq;
pub use relative::RelativeBias;
pub use source::{Memory, Source};
pub use stack::Stack;
