//! What attention looked at, without storing `[seq_q, seq_kv]`.
//!
//! ```text
//! P = exp(S - LSE),    0 where a key is hidden
//! rows:                        P of chosen queries
//! received[j]                = sum over i of P[i, j]
//! pooled[a, b]               = mean over heads and over the queries i of cell a of
//!                              sum over the keys j of cell b of P[i, j]
//! entropy[i]                 = -sum over j of P[i, j] ln P[i, j],  with 0 ln 0 = 0
//! top keys[i]                = the k keys of largest P[i, .], largest first
//! gradient times attention   = P * (dO V^T), of chosen queries
//! ```
//!
//! The scores `S` are those of [`forward`](super::forward), with every option that it takes, and
//! `LSE` is what it returned. An `LSE` that counts more keys than the call's, such as one that
//! includes sinks or the other part of split keys, gives the shares of these keys in the whole.
//!
//! Every kernel walks the scores once and owns what it writes: no atomics, and the same inputs give
//! the same bits. `rows`, `received`, `pooled` and `gradient_times_attention` have a lane per key,
//! `entropy` and `top_keys` a lane per query. Beside its result, only `pooled` needs memory: at most
//! 64 rows of `seq_kv` numbers for each batch element, or as much as its result.
//!
//! What these maps explain is disputed: Jain and Wallace 2019, Attention is not Explanation,
//! <https://arxiv.org/abs/1902.10186>; Wiegreffe and Pinter 2019, Attention is not not Explanation,
//! <https://arxiv.org/abs/1908.04626>.

mod cells;
mod chosen;
mod columns;
mod entropy;
mod gradient;
mod lanes;
mod pooled;
mod received;
mod rows;
mod setup;
mod top_keys;

pub use entropy::entropy;
pub use gradient::gradient_times_attention;
pub use pooled::pooled;
pub use received::received;
pub use rows::rows;
pub use setup::MapInputs;
pub use top_keys::{TopKeys, top_keys};
