//! Decoders: models of the next token, a stack of causal self-attention and MLPs.
//!
//! One module covers [GPT-2](https://cdn.openai.com/better-language-models/language_models_are_unsupervised_multitask_learners.pdf),
//! [GPT-NeoX](https://arxiv.org/abs/2204.06745), [Llama](https://arxiv.org/abs/2302.13971),
//! [Mistral](https://arxiv.org/abs/2310.06825) (window), [Mixtral](https://arxiv.org/abs/2401.04088)
//! (experts), [Qwen2](https://arxiv.org/abs/2407.10671), [Qwen3](https://arxiv.org/abs/2505.09388),
//! [Gemma 2](https://arxiv.org/abs/2408.00118) (softcap, every other layer a window),
//! [Gemma 3](https://arxiv.org/abs/2503.19786), [Falcon](https://arxiv.org/abs/2311.16867) (one key
//! head), [BLOOM](https://arxiv.org/abs/2211.05100) and MPT (ALiBi),
//! [gpt-oss](https://arxiv.org/abs/2508.10925) (sinks) and
//! [DiffLlama](https://arxiv.org/abs/2410.05258); `families` says how their checkpoints are read.
//!
//! ```no_run
//! use attention_models::models::decoder::Decoder;
//! use attention_models::models::generation::{GenerationConfig, Prompt, stream};
//! use burn::tensor::Device;
//!
//! let model = Decoder::load("smollm2", &Device::flex())?;
//! let prompt = Prompt::left_padded(&[vec![504, 3575, 282]], 0)?;
//! let cache = model.cache(&prompt, 20)?;
//! for step in stream(&model, prompt, cache, GenerationConfig::new(20))? {
//!     println!("{:?}", step?[0]);
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod config;
mod families;
mod layer;
mod model;

pub use config::{DecoderConfig, DecoderLayerConfig, FeedForwardConfig, Residual};
pub use layer::DecoderLayer;
pub use model::Decoder;
