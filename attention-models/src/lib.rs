//! Attention for [Burn](https://burn.dev): fused differentiable operations on tensors ([`ops`]) and
//! modules ([`nn`]), on every device that Burn runs on.

#[cfg(feature = "cli")]
pub mod cli;
pub mod device;
#[cfg(feature = "models")]
pub mod models;
pub mod nn;
pub mod ops;
#[cfg(feature = "training")]
pub mod training;

/// The examples of the README, which have to compile.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;
