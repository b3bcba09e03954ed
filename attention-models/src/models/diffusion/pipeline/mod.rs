//! From noise and words to a picture: latent diffusion with classifier-free guidance, maps of what
//! each word looked at, and editing of a picture by its prompt.

mod edit;
mod latent;
mod maps;
mod words;

pub use edit::PromptToPrompt;
pub use latent::{Guidance, LatentDiffusion, SamplingConfig};
pub use maps::{HeatGrid, WordMaps};
pub use words::{Alignment, Word, words};
