//! The `attention` program.

use std::process::ExitCode;

fn main() -> ExitCode {
    attention_models::cli::main()
}
