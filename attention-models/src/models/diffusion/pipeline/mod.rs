//! From noise and words to a picture: latent diffusion with classifier-free guidance, maps of what
//! each word looked at, and editing of a picture by its prompt.

mod edit;
mod latent;
mod maps;
#[cfg(feature = "tokenizers")]
mod stable_diffusion;
mod words;

pub use edit::PromptToPrompt;
pub use latent::{Guidance, LatentDiffusion, SamplingConfig};
pub use maps::{HeatGrid, WordMaps};
#[cfg(feature = "tokenizers")]
pub use stable_diffusion::{PipelineError, Prompt, StableDiffusion};
pub use words::{Alignment, Word, words};
