//! `cargo xtask bench`.

mod peers;

use std::{
    env, fs,
    path::PathBuf,
    process::{Command, ExitCode},
};

use anyhow::{Context, Result};
use clap::Args;

use crate::{build, process, setup};

/// What `cargo xtask bench` takes.
#[derive(Args)]
pub struct Bench {
    /// The device: cpu, cubecl-cpu, vulkan, wgpu, cuda, rocm or metal
    #[arg(long, default_value = "cpu", value_name = "D")]
    device: String,
    /// Leave out the longest sequence, and measure for a shorter time
    #[arg(long)]
    quick: bool,
    /// Only shapes whose name contains this, such as `D64 N1024 f32 causal`
    #[arg(long, value_name = "S")]
    filter: Option<String>,
    /// Whole models, fetched by `cargo xtask models fetch`, instead of attention alone
    #[arg(long)]
    models: bool,
    /// Write the page, its pictures and the numbers into this folder
    #[arg(long, value_name = "DIR", default_value = "docs/performance")]
    report: PathBuf,
}

/// Those whose version a reader of the numbers wants to know.
const NAMED: [&str; 3] = ["burn", "cubecl", "cubek"];

/// How wide a software rasterizer's vectors are, where that is not left to it.
const VECTOR_WIDTH: &str = "LP_NATIVE_VECTOR_WIDTH";

impl Bench {
    /// Sets up, builds the program and lets it measure beside torch and onnxruntime.
    pub fn run(&self) -> Result<ExitCode> {
        let ready = setup::ensure()?;
        let peers = peers::python(&self.device, self.models);
        let program = build::program("attention")?;
        let mut bench = build::launch(&program, &ready);
        bench.args(["bench", "--device", &self.device, "--report"]);
        bench.arg(&self.report);
        match peers {
            Ok(peers) => {
                bench.arg("--peers").arg(peers.python);
                bench.env("PYTHONPATH", peers.packages);
            }
            Err(error) => {
                eprintln!("warning: torch and onnxruntime take no part: {error:#}");
                bench.args(["--note", &format!("no torch, no onnxruntime: {error:#}")]);
            }
        }
        let width = env::var(VECTOR_WIDTH).map(|bits| format!("{VECTOR_WIDTH}={bits}"));
        for note in versions()?.into_iter().chain(width) {
            bench.args(["--note", &note]);
        }
        if self.models {
            bench.arg("--models");
        }
        if self.quick {
            bench.arg("--quick");
        }
        if let Some(part) = &self.filter {
            bench.args(["--filter", part]);
        }
        process::exit_code(&mut bench)
    }
}

/// The compiler, and the libraries that the lock file pins.
fn versions() -> Result<Vec<String>> {
    let rustc = process::capture(Command::new("rustc").arg("--version"))?;
    let lock = fs::read_to_string(process::workspace().join("Cargo.lock"))
        .context("the workspace has no Cargo.lock")?;
    let mut versions = vec![rustc.trim().to_string()];
    versions.extend(NAMED.iter().filter_map(|name| {
        let version = locked(&lock, name)?;
        Some(format!("{name} {version}"))
    }));
    Ok(versions)
}

/// The version that a lock file has of a package.
fn locked<'a>(lock: &'a str, name: &str) -> Option<&'a str> {
    let entry = format!("name = \"{name}\"");
    let mut lines = lock.lines().skip_while(|line| *line != entry).skip(1);
    let version = lines.next()?.strip_prefix("version = \"")?;
    version.strip_suffix('"')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_that_of_the_package_with_exactly_this_name() {
        let lock = "[[package]]\nname = \"burn-core\"\nversion = \"1.0.0\"\n\n\
                    [[package]]\nname = \"burn\"\nversion = \"0.22.1\"\n";
        assert_eq!(locked(lock, "burn"), Some("0.22.1"));
        assert_eq!(locked(lock, "bur"), None);
    }
}
