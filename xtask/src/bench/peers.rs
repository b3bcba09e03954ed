//! A Python with torch and onnxruntime, in the cache folder.

use std::{
    env,
    ffi::OsString,
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
/// What whole models are made of, and exported with, without those above.
const MODELS: [&str; 28] = [
    "transformers==5.24.0",
    "annotated-doc==0.0.7",
    "annotated-types==0.8.0",
    "anyio==4.16.0",
    "click==8.5.1",
    "h11==0.16.0",
    "hf-xet==1.8.0",
    "httpcore2==2.16.2",
    "httpx2==2.16.2",
    "huggingface-hub==2.4.0",
    "idna==3.20",
    "markdown-it-py==4.3.0",
    "mdurl==0.1.2",
    "onnx-ir==1.1.0",
    "onnxscript==0.7.2",
    "pydantic==2.14.4",
    "pydantic-core==2.50.5",
    "pygments==2.21.0",
    "pyyaml==6.0.4",
    "regex==2026.11.19",
    "rich==15.0.0",
    "safetensors==0.8.0",
    "shellingham==1.5.4",
    "tokenizers==0.23.3",
    "tqdm==4.70.1",
    "truststore==0.10.5",
    "typer==0.29.2",
    "typing-inspection==0.4.5",
];
const STUBS: &str = include_str!("stubs.py");

/// A Python, and what its `PYTHONPATH` must be.
pub struct Peers {
    pub python: PathBuf,
    pub packages: OsString,
}

/// Fetches what is not there yet: torch without its GPU libraries unless the device wants them, and
/// transformers where whole models are measured.
pub fn python(device: &str, models: bool) -> Result<Peers> {
    let python = setup::python_with_pip()?;
    let tag = "import sys; print(sys.implementation.cache_tag)";
    let tag = process::capture(Command::new(&python).args(["-c", tag]))?;
    let gpu = matches!(device, "cuda" | "rocm");
    let name = if gpu { "peers-gpu" } else { "peers" };
    let versions = [TORCH, ONNX[1]].map(|package| package.replace("==", "-"));
    let name = format!("{name}-{}-{}-{}", versions[0], versions[1], tag.trim());
    let mut folders = vec![cache::folder()?.join(name)];
    if !folders[0].exists() {
        fetch(&python, gpu, &folders[0])?;
    }
    if models {
        let name = format!("peers-{}-{}", MODELS[0].replace("==", "-"), tag.trim());
        let folder = cache::folder()?.join(name);
        if !folder.exists() {
            fetch_models(&python, &folder)?;
        }
        folders.push(folder);
    }
    Ok(Peers {
        python,
        packages: env::join_paths(folders)?,
    })
}

fn fetch_models(python: &Path, packages: &Path) -> Result<()> {
    eprintln!("bench: getting transformers ...");
    let scratch = cache::scratch()?;
    let staged = scratch.path().join("models");
    install(python, &staged, &[&["--no-deps"], &MODELS[..]].concat())?;
    fs::rename(&staged, packages).with_context(|| format!("cannot write {}", packages.display()))
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
