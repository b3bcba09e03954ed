//! What Transformers are made of: norms, rotary positions, MLPs, mixtures of experts and
//! self-attention. Models choose among these and say how they are stacked.
//!
//! ```
//! use attention_models::models::blocks::{
//!     AttentionInput, PositionEncoding, Positions, RotaryConfig, SelfAttentionConfig,
//! };
//! use burn::tensor::{Device, Tensor};
//!
//! // Llama's attention: four query heads of 8 share two key heads, positions are rotations.
//! let device = Device::flex();
//! let attention = SelfAttentionConfig::new(32, 4)
//!     .with_kv_heads(Some(2))
//!     .with_causal(true)
//!     .with_position(PositionEncoding::Rotary(RotaryConfig::new(8)))
//!     .init(&device);
//! let input = AttentionInput::new([&attention], &Positions::range(0..5), &device);
//! let tokens = Tensor::<3>::zeros([2, 5, 32], &device);
//! assert_eq!(attention.forward(tokens, &input)?.dims(), [2, 5, 32]);
//! # Ok::<(), attention_models::ops::AttentionError>(())
//! ```

mod activation;
mod attention;
mod differential;
mod elementwise;
mod experts;
mod mlp;
mod norm;
mod positions;
mod rotary;

pub use activation::Activation;
pub use attention::{
    AttentionInput, PositionEncoding, Projected, SelfAttention, SelfAttentionConfig, Window,
};
pub use differential::DifferentialHeads;
pub use elementwise::{convolve, gated_silu, gelu, group_norm, linear, product, rms_norm, silu};
pub use experts::{MixtureOfExperts, MixtureOfExpertsConfig};
pub use mlp::{FeedForward, Gate, GatedMlp, GatedMlpConfig, Mlp, MlpConfig};
pub use norm::{Norm, NormConfig, RmsNorm, RmsNormConfig};
pub use positions::Positions;
pub use rotary::{
    HuggingFaceRotary, Rotary, RotaryConfig, RotaryPairs, RotaryScaling, RotaryTable,
};
