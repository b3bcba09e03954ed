//! What a GPU would be given, without one: every kernel of the catalog is launched on devices that
//! only keep what is launched, lowered for each of them by the compilers that CubeCL's runtimes use,
//! then compiled by the vendors' own compilers where those are at hand, and measured.
//!
//! ```text
//! catalog -> launch on a described device -> kernel -> CUDA C++ | HIP C++ | PTX | AMD code | WGSL |
//!            SPIR-V | MSL -> ptxas, naga, ... -> registers, spills, shared memory, instructions
//! ```
//!
//! What could not be compiled is a row with its reason, never one that passed.

pub mod capture;
pub mod cases;
pub mod execute;
pub mod gpu;
pub mod inspect;
pub mod lower;
pub mod picture;
pub mod run;
pub mod table;
