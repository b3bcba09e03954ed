//! All tests that cross crates in one binary, for linking one is expensive.

mod bad_input;
mod cli;
mod combine;
mod differential;
mod differential_module;
mod goldens;
mod memory;
mod modifications;
mod support;
mod sweep;
