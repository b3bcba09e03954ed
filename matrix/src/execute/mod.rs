//! Kernels executed without a GPU: the CUDA C++ and HIP C++ that CubeCL writes run on this machine's
//! processor.
//!
//! ```text
//! launch -> kernel -> CUDA C++ | HIP C++ -> (shim.h, C++ compiler) -> shared object
//!        -> for each block: a fiber for each thread, which give way where threads meet
//! ```
//!
//! | file | what |
//! |---|---|
//! | `device.rs`, `machine.rs` | a CubeCL server with host memory, so that the ordinary launches run on it |
//! | `source.rs`, `shim.h`, `object.rs` | the text for the host's C++ compiler, compiled and loaded |
//! | `fiber.rs`, `block.rs`, `schedule.rs` | threads of a block, which barriers and warps hold together |
//! | `request.rs`, `warp.rs`, `wmma.rs` | what a thread says when it meets others; shuffles, votes, matrix instructions |
//! | `guarded.rs` | memory that is NaN until it is written, and whose surroundings must stay as they are |
//! | `problem.rs`, `problems.rs`, `unfused.rs`, `upload.rs`, `check.rs`, `table.rs` | attention with values, compared with the oracle |
//!
//! Between two meetings a thread runs alone, and a [`Schedule`] decides who is next. Barriers that are
//! missing show as wrong numbers or as bits that depend on the schedule; barriers that not every
//! thread reaches, and collectives whose lanes are at different places, are a [`Fault`].
//!
//! What this does not show: time, and reorderings of memory within a thread that a GPU may make.

mod block;
mod check;
mod device;
mod fault;
mod fiber;
mod guarded;
mod machine;
mod object;
mod problem;
mod problems;
mod request;
mod schedule;
mod source;
mod table;
mod unfused;
mod upload;
mod warp;
mod wmma;

pub use check::{Checked, Compared, check};
pub use device::Device;
pub use fault::Fault;
pub use object::Objects;
pub use problem::{PASSES, Problem};
pub use problems::{in_terms, matrix, register};
pub use schedule::Schedule;
pub use table::table;

/// The targets that are executed: NVIDIA's matrix instructions, and both of RDNA's layouts.
pub const TARGETS: [&str; 3] = ["sm_80-cpp", "gfx1100-cpp", "gfx1201-cpp"];
