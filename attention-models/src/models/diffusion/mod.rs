//! Diffusion models: UNets and a diffusion transformer that predict noise, the schedulers that
//! take it away step by step, the autoencoder between pixels and latents, and pipelines made of
//! them.
//!
//! | model | reads | paper |
//! |---|---|---|
//! | [`UNet2DModel`] | diffusers' `UNet2DModel` | Ho et al. 2020, <https://arxiv.org/abs/2006.11239> |
//! | [`UNet2DConditionModel`] | diffusers' `UNet2DConditionModel` | Rombach et al. 2022, <https://arxiv.org/abs/2112.10752> |
//! | [`DiT`] | diffusers' `DiTTransformer2DModel` | Peebles & Xie 2023, <https://arxiv.org/abs/2212.09748> |
//! | [`AutoencoderKl`] | diffusers' `AutoencoderKL` | Rombach et al. 2022 |
//! | [`guided::GuidedUNet`] | guided-diffusion's state dict | Dhariwal & Nichol 2021, <https://arxiv.org/abs/2105.05233> |
//! | [`pipeline::StableDiffusion`] | a folder of diffusers' `StableDiffusionPipeline` | Rombach et al. 2022 |
//!
//! Attention maps of all of them are shown and edited through [`AttentionControl`].

pub mod blocks;
mod control;
pub mod dit;
mod folder;
pub mod guided;
mod noise;
pub mod pipeline;
pub mod schedulers;
mod unet;
pub mod vae;

pub use control::{AttentionControl, Context, Plain, Site};
pub use dit::{DiT, DiTConfig};
pub use noise::Noise;
pub use unet::{Stages, UNet2DConditionConfig, UNet2DConditionModel, UNet2DConfig, UNet2DModel};
pub use vae::{AutoencoderKl, AutoencoderKlConfig, Posterior};
