//! A Python with torch and onnxruntime, in the cache folder.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};

use crate::{cache, process, setup};

const TORCH: &str = "torch==2.15.0";
/// The one of NVIDIA's libraries that torch calls as it starts.
const CUDA_RUNTIME: &str = "nvidia-cuda-runtime==13.5.37";
/// What torch imports wherever it runs.
const IMPORTED: [&str; 7] = [
    "filelock==4.3.1",
    "fsspec==2026.9.0",
    "jinja2==3.1.6",
    "networkx==3.6.1",
    "numpy==2.4.6",
    "sympy==1.14.0",
    "typing-extensions==4.16.0",
];
const ONNX: [&str; 2] = ["onnx==1.23.2", "onnxruntime==1.32.0"];
const STUBS: &str = include_str!("stubs.py");

/// A Python, and the folder that its `PYTHONPATH` must name.
pub struct Peers {
    pub python: PathBuf,
    pub packages: PathBuf,
}

/// Fetches what is not there yet: without torch's GPU libraries unless the device wants them.
pub fn python(device: &str) -> Result<Peers> {
    let python = setup::python_with_pip()?;
    let tag = "import sys; print(sys.implementation.cache_tag)";
    let tag = process::capture(Command::new(&python).args(["-c", tag]))?;
    let gpu = matches!(device, "cuda" | "rocm");
    let name = if gpu { "peers-gpu" } else { "peers" };
    let versions = [TORCH, ONNX[1]].map(|package| package.replace("==", "-"));
    let name = format!("{name}-{}-{}-{}", versions[0], versions[1], tag.trim());
    let packages = cache::folder()?.join(name);
    if !packages.exists() {
        fetch(&python, gpu, &packages)?;
    }
    Ok(Peers { python, packages })
}

fn fetch(python: &Path, gpu: bool, packages: &Path) -> Result<()> {
    eprintln!("bench: getting torch and onnxruntime, which takes a while ...");
    let scratch = cache::scratch()?;
    let staged = scratch.path().join("peers");
    if cfg!(all(target_os = "linux", target_arch = "x86_64")) && !gpu {
        install(python, &staged, &["--no-deps", TORCH, CUDA_RUNTIME])?;
        install(python, &staged, &IMPORTED)?;
        process::capture(Command::new(python).args(["-c", STUBS]).arg(&staged))
            .context("torch cannot be freed of its GPU libraries")?;
    } else {
        install(python, &staged, &[TORCH])?;
        install(python, &staged, &IMPORTED)?;
    }
    install(python, &staged, &ONNX)?;
    let import = "import numpy, onnx, onnxruntime, torch";
    process::capture(
        Command::new(python)
            .env("PYTHONPATH", &staged)
            .args(["-c", import]),
    )
    .context("what was fetched does not start")?;
    fs::rename(&staged, packages).with_context(|| format!("cannot write {}", packages.display()))
}

fn install(python: &Path, folder: &Path, packages: &[&str]) -> Result<()> {
    let mut pip = Command::new(python);
    pip.args(["-m", "pip", "install", "--quiet", "--target"]);
    pip.arg(folder)
        .args(["--only-binary=:all:", "--disable-pip-version-check"]);
    process::capture(pip.args(packages))
        .map(drop)
        .with_context(|| format!("pip cannot install {}", packages.join(", ")))
}
