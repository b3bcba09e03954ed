//! Exact attention.
//!
//! ```text
//! S = scale * Q K^T,  softcapped,  + bias,  hidden where the mask or causality says
//! P = softmax(S) over the keys,    O = P V,    LSE = log(sum(exp(S)))
//! ```
//!
//! Query `[batch, heads, seq_q, head_dim]`, key `[batch, kv_heads, seq_kv, head_dim]`, value
//! `[batch, value_heads, seq_kv, value_dim]`, output `[batch, heads, seq_q, value_dim]`, LSE
//! `[batch, heads, seq_q]` in f32. Mask and bias broadcast to `[batch, heads, seq_q, seq_kv]`. Query
//! head `h` reads key head `h / (heads / kv_heads)`, and key head `h` goes with value head
//! `h / (kv_heads / value_heads)`.
//!
//! Scores never reach global memory: the forward keeps `O` and `LSE`, the backward recomputes
//! `P = exp(S - LSE)` in two walks, one over the queries and one over the keys, each of which owns
//! what it writes, so that there are no atomics and the same inputs give the same bits
//! (FlashAttention-2, <https://arxiv.org/abs/2307.08691>).
//!
//! A score at or below `f32::MIN` is hidden like a masked one.

mod args;
mod backward_bias;
mod backward_head;
mod backward_key;
mod backward_query;
mod backward_table;
pub(crate) mod bind;
mod buffers;
mod checks;
mod cmma;
mod combine;
mod decode;
mod delta;
mod engine;
mod exponential;
mod few_rows;
mod forward;
mod key_walk;
mod launch;
mod launch_backward;
mod launch_bias;
mod launch_head;
mod launch_tables;
pub mod maps;
mod mma;
mod modify;
mod operands;
mod plan;
mod query_gradients;
mod query_rows;
mod query_walk;
mod rows;
mod score;
mod setup;
mod share;
mod split;
mod step_sum;
mod tensors;
mod tune;

pub(crate) use plan::Plan;

pub use buffers::Buffers;
pub use engine::{Engine, engines};
pub use launch::forward;
pub use launch_backward::backward;
pub use tensors::{BackwardInputs, Gradients, Inputs, Output, Wanted};
