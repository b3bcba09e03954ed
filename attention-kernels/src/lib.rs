//! Attention as CubeCL kernels, written once for CUDA, ROCm, Metal, Vulkan, WebGPU and the CPU.
//!
//! The kernels need nothing but a CubeCL [`Client`](cubecl::client::Client): tensors come in as
//! [`TensorRef`]s, results go out as handles. Burn users want `attention-models`.

#![allow(
    clippy::too_many_arguments,
    reason = "a kernel's arguments are its bindings, and its parts are inlined"
)]

mod copy_async;
mod exp2;
mod tensor;
mod tile;
mod turns;

pub mod block_map;
pub mod catalog;
pub mod device;
pub mod modification;
pub mod rates;
pub mod softmax;
pub mod variants;

pub use tensor::TensorRef;
