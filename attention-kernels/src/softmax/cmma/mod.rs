//! Exact attention on cooperative matrices, whose fragments only the device can read: the walks of
//! [`softmax`](super) with scores in shared memory.

mod backward_key;
mod backward_query;
mod forward;
mod launch;
mod plan;
mod soften;

pub(super) use launch::{launch_forward, launch_key_walk, launch_query};
pub(super) use plan::{FragmentPlan, fragment_plan};
