//! Exact attention on matrix instructions whose register layout is known: the walks of
//! [`softmax`](super) over tokens that pass through shared memory.

mod backward_key;
mod backward_query;
mod delta;
mod edge;
mod forward;
mod key_grads;
mod launch;
mod plan;
mod soften;
mod token_stats;

pub(super) use launch::{launch_delta, launch_forward, launch_key_walk, launch_query};
pub(super) use plan::{MatrixWalk, ROWS, matrix_plan};
