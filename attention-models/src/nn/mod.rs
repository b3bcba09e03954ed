//! Attention modules, as Burn users know them: `FooConfig` -> `init(&device)` -> `forward`.

mod multi_head;

#[cfg(feature = "models")]
pub(crate) use multi_head::split_heads;
pub use multi_head::{MhaInput, MultiHeadAttention, MultiHeadAttentionConfig};
