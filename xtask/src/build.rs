//! The one build that the demo, the tests and the benchmarks share.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result};
use serde_json::Value;

use crate::{process, setup::Ready};

/// Builds one of the workspace's programs and returns where it lies.
///
/// `--workspace` matters although one program is wanted: Cargo unites features over the selected packages, so
/// any narrower selection would compile Burn and CubeCL a second time for `cargo test --workspace`.
pub fn program(name: &str) -> Result<PathBuf> {
    let mut build = process::cargo();
    build.args(["build", "--workspace", "--bin", name]);
    build
        .arg("--message-format=json-render-diagnostics")
        .stderr(Stdio::inherit());
    let messages = process::capture(&mut build)?;
    let program = messages.lines().find_map(|line| executable(line, name));
    program.with_context(|| format!("cargo built no program called {name}"))
}

fn executable(message: &str, name: &str) -> Option<PathBuf> {
    let message: Value = serde_json::from_str(message).ok()?;
    let is_ours = message["target"]["name"] == name;
    message["executable"]
        .as_str()
        .filter(|_| is_ours)
        .map(PathBuf::from)
}

/// Cargo's target folder.
pub fn target_folder() -> Result<PathBuf> {
    let mut metadata = process::cargo();
    metadata.args(["metadata", "--no-deps", "--format-version", "1"]);
    let metadata: Value = serde_json::from_str(&process::capture(&mut metadata)?)?;
    let folder = metadata["target_directory"]
        .as_str()
        .context("cargo metadata names no target folder")?;
    Ok(folder.into())
}

/// A command that runs `program` on this machine's Vulkan device, real or software.
pub fn launch(program: &Path, ready: &Ready) -> Command {
    match &ready.runner {
        Some(runner) => {
            let mut command = Command::new(runner);
            command.arg(program);
            command
        }
        None => Command::new(program),
    }
}
