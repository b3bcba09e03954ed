//! Attention modules, as Burn users know them: `FooConfig` -> `init(&device)` -> `forward`.

mod differential;
mod multi_head;

pub use differential::{DifferentialAttention, DifferentialAttentionConfig};
#[cfg(feature = "models")]
pub(crate) use multi_head::split_heads;
pub use multi_head::{MhaInput, MultiHeadAttention, MultiHeadAttentionConfig};
