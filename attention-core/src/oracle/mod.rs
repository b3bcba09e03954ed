//! Exact attention and its gradients in plain `f64`: what the kernels are measured against.
//!
//! For every batch element, query head, query `i` and key `j`, with `h' = h / (heads / kv_heads)` and
//! `h" = h' / (kv_heads / value_heads)`:
//!
//! ```text
//! x[i,j] = scale * sum_d q[h,i,d] k[h',j,d]
//! s[i,j] = softcap * tanh(x[i,j] / softcap) + bias[i,j]     (x[i,j] + bias[i,j] without softcap)
//! lse[i] = ln sum_j exp(s[i,j])                             over the keys that i may see
//! p[i,j] = exp(s[i,j] - lse[i])                             0 for every other key
//! o[i]   = sum_j p[i,j] f[i,j] v[h",j]                      f = 1 without factors of probabilities
//! ```
//!
//! A key is out of sight when the mask is `true` there, when the causal diagonal hides it, or when
//! its bias is `-inf`; whatever it holds, NaN included, touches nothing. A query that sees no key
//! has output 0, log-sum-exp `-inf`, and neither gets nor gives a gradient.
//!
//! Backward, for the upstream gradients `do` of the output and `dlse` of the log-sum-exp:
//!
//! ```text
//! dp[i,j]   = f[i,j] sum_d do[i,d] v[h",j,d]
//! D[i]      = sum_j p[i,j] dp[i,j]
//! ds[i,j]   = p[i,j] (dp[i,j] - D[i] + dlse[i])
//! dx[i,j]   = ds[i,j] (1 - tanh(x[i,j] / softcap)^2)        (ds[i,j] without softcap)
//! dq[i]     = scale * sum_j dx[i,j] k[h',j]
//! dk[h',j] += scale * sum_i dx[i,j] q[h,i]                  summed over the group's query heads
//! dv[h",j] += sum_i p[i,j] f[i,j] do[i]                     over all query heads that read it
//! dbias    += ds                                            summed where the bias is broadcast
//! ```
//!
//! | tensor | shape |
//! |---|---|
//! | query | `[batch, heads, seq_q, head_dim]` |
//! | key | `[batch, kv_heads, seq_kv, head_dim]` |
//! | value | `[batch, value_heads, seq_kv, value_dim]` |
//! | mask, bias | `[batch \| 1, heads \| 1, seq_q \| 1, seq_kv \| 1]` |
//! | out | `[batch, heads, seq_q, value_dim]` |
//! | lse | `[batch, heads, seq_q]` |
//!
//! Attention: Vaswani et al. 2017, <https://arxiv.org/abs/1706.03762>. Log-sum-exp as the one thing
//! kept for the backward pass: FlashAttention-2, Dao 2023, <https://arxiv.org/abs/2307.08691>.
//! Grouped heads: Ainslie et al. 2023, <https://arxiv.org/abs/2305.13245>.
//!
//! ```
//! use attention_core::{AttentionSpec, oracle};
//!
//! // One query that matches the second key three times as well as the first.
//! let inputs = oracle::Inputs {
//!     query: oracle::Tensor4::new([1, 1, 1, 1], vec![1.0]),
//!     key: oracle::Tensor4::new([1, 1, 2, 1], vec![0.0, 3f64.ln()]),
//!     value: oracle::Tensor4::new([1, 1, 2, 1], vec![0.0, 8.0]),
//!     mask: None,
//!     bias: None,
//! };
//! let output = oracle::forward(&inputs, &AttentionSpec::default())?;
//! assert!((output.out.get([0, 0, 0, 0]) - 6.0).abs() < 1e-12);
//! assert!((output.lse[0] - 4f64.ln()).abs() < 1e-12);
//! # Ok::<(), attention_core::AttentionError>(())
//! ```

mod array;
mod backward;
pub mod differential;
mod forward;
mod heads;
mod inputs;
mod maps;
mod modification;
mod rows;

pub use array::{Array4, Mask4, Tensor4};
pub use backward::{Gradients, backward, backward_modified};
pub use forward::{Output, forward, forward_modified, probabilities};
pub use inputs::Inputs;
pub use maps::{chosen_rows, entropy, gradient_times_attention, pooled, received, top_keys};
pub use modification::{MaskFunction, Modification, ScoreFunction, WeightFunction};
