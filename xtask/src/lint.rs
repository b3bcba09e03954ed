//! `cargo xtask lint`.

use std::process::ExitCode;

use anyhow::Result;

use crate::process;

/// Formatting, clippy and documentation; each with every warning an error.
pub fn run() -> Result<ExitCode> {
    process::stream(process::cargo().args(["fmt", "--all", "--check"]))?;
    let clippy = [
        "clippy",
        "--workspace",
        "--all-targets",
        "--",
        "-D",
        "warnings",
    ];
    process::stream(process::cargo().args(clippy))?;
    let mut doc = process::cargo();
    doc.env("RUSTDOCFLAGS", "-D warnings")
        .args(["doc", "--workspace", "--no-deps"]);
    process::stream(&mut doc)?;
    Ok(ExitCode::SUCCESS)
}
