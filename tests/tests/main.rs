//! All tests that cross crates in one binary, for linking one is expensive.

mod bad_input;
mod cli;
mod combine;
mod goldens;
mod maps;
mod memory;
mod modifications;
mod support;
mod sweep;
