//! All tests that cross crates in one binary, for linking one is expensive.

mod bad_input;
mod block_map;
mod captures;
mod cases;
mod cli;
mod cli_diffusion;
mod cli_speed;
mod combinations;
mod combine;
mod differential;
mod differential_module;
mod dropout;
mod engines;
mod examples;
mod flex_memory;
mod goldens;
mod maps;
mod maps_rules;
mod memory;
mod modifications;
mod packed;
mod support;
mod sweep;
mod tables;
mod tuned;
mod variants;
