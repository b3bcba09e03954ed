//! All integration tests of attention-models in one binary, for linking one is expensive.

#[cfg(feature = "cli")]
mod assets;
mod bound;
mod comparison;
mod errors;
mod layouts;
mod mha;
#[cfg(feature = "cli")]
mod models;
mod oracle;
mod rows;
mod single;
mod support;
#[cfg(feature = "cli")]
mod training;
