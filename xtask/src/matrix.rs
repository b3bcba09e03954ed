//! `cargo xtask matrix`.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

use anyhow::{Context, Result, ensure};
use clap::Args;

use crate::{
    build, cache,
    package::{self, Package},
    process, setup,
};

/// What `cargo xtask matrix` takes.
#[derive(Args)]
pub struct Matrix {
    /// Passed on: --execute, --target T, --kernel K, --case C, --report DIR, --compare FILE; `-- --help` explains
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    args: Vec<String>,
}

const VERSION: &str = "13.5.37";

/// NVIDIA's assembler, disassembler and math library: what compiles PTX needs no more.
const CUDA: [Package; 3] = [
    Package {
        name: "nvidia-cuda-nvcc",
        version: VERSION,
        platform: None,
        sha256: "f5c4f7ead5d964fb4af42bbf1e6d3ec3c1e6e9d83b53749f691d387e7fcaa3a7",
        member: "nvidia/cu13/bin/ptxas",
    },
    Package {
        name: "nvidia-cuda-nvdisasm",
        version: VERSION,
        platform: None,
        sha256: "d3fdbdd49fa53e2e4aacd3db8259d052bd2b049ececdcb69e92e083c6728e7ca",
        member: "nvidia/cu13/bin/nvdisasm",
    },
    Package {
        name: "nvidia-nvvm",
        version: VERSION,
        platform: None,
        sha256: "c41bfa362e407405163f103c2229f0765f8cc2ed7d148b754dc77f228bf7e070",
        member: "nvidia/cu13/nvvm/libdevice/libdevice.10.bc",
    },
];

impl Matrix {
    /// Sets up, builds the matrix and runs it with the vendors' programs.
    pub fn run(&self) -> Result<ExitCode> {
        setup::ensure()?;
        let program = build::program("attention-matrix")?;
        let mut matrix = Command::new(program);
        if self.args.iter().any(|arg| arg == "--execute") {
            return process::exit_code(matrix.args(&self.args));
        }
        match cuda() {
            Ok(folder) => {
                // Where CubeCL looks for libdevice.
                matrix.env("CUDA_PATH", &folder).arg("--cuda").arg(folder);
            }
            Err(error) => eprintln!("warning: PTX is lowered but not compiled: {error:#}"),
        }
        if let Some(folder) = setup::llvm_programs()? {
            matrix.arg("--llvm").arg(folder);
        }
        match spirv_val() {
            Ok(program) => {
                matrix.arg("--spirv-val").arg(program);
            }
            Err(error) => eprintln!("warning: SPIR-V is lowered but not validated: {error:#}"),
        }
        process::exit_code(matrix.args(&self.args))
    }
}

/// Khronos' validator; where there is none, Debian's is installed.
fn spirv_val() -> Result<PathBuf> {
    if let Some(program) = process::find("spirv-val") {
        return Ok(program);
    }
    ensure!(setup::has_apt(), "no spirv-val is found");
    setup::install_packages(&["spirv-tools"])?;
    process::find("spirv-val").context("spirv-tools brought no spirv-val")
}

/// The folder with NVIDIA's programs, in the shape of a toolkit's.
fn cuda() -> Result<PathBuf> {
    ensure!(
        cfg!(all(target_os = "linux", target_arch = "x86_64")),
        "NVIDIA's programs are fetched for Linux on x86-64 only"
    );
    let folder = cache::folder()?.join(format!("cuda-{VERSION}"));
    for package in &CUDA {
        let within = Path::new(package.member).strip_prefix("nvidia/cu13")?;
        let destination = folder.join(within);
        if destination.exists() {
            continue;
        }
        let scratch = cache::scratch()?;
        let bytes = package::read(package, scratch.path())?;
        let file = scratch.path().join("member");
        fs::write(&file, bytes).context("cannot write to the cache")?;
        make_executable(&file)?;
        cache::publish(&file, &destination)?;
    }
    Ok(folder)
}

#[cfg(unix)]
fn make_executable(file: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(file, fs::Permissions::from_mode(0o755)).context("cannot change the mode")
}

#[cfg(not(unix))]
fn make_executable(_: &Path) -> Result<()> {
    Ok(())
}
