//! Attention modules, as Burn users know them: `FooConfig` -> `init(&device)` -> `forward`.

mod differential;
mod multi_head;

pub use differential::{DifferentialAttention, DifferentialAttentionConfig};
pub use multi_head::{MhaInput, MultiHeadAttention, MultiHeadAttentionConfig};
#[cfg(feature = "models")]
pub(crate) use multi_head::{merge_heads, split_heads};
