//! The vocabulary of attention: problem shapes, options, typed refusals, the cost model and the
//! float64 oracles. There is no GPU and no Burn in this crate.
//!
//! Every tensor here is `[batch, heads, sequence, dim]`.

mod cost;
mod dtype;
mod error;
pub mod host;
mod maps;
pub mod oracle;
mod problem;
pub mod roofline;
mod spec;

pub use cost::{Cost, backward_cost, forward_cost};
pub use dtype::DType;
pub use error::AttentionError;
pub use problem::{AttentionProblem, AttentionShapes, MAX_HEAD_DIM};
pub use spec::{AttentionSpec, CausalAlignment};
