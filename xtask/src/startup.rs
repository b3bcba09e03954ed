//! `cargo xtask startup`: how long a process waits for each kernel to be compiled, with and without what an earlier
//! process left on disk.

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context, Result};
use clap::Args;

use crate::{
    build, cache, process,
    setup::{self, Ready},
};

/// What `cargo xtask startup` takes.
#[derive(Args)]
pub struct Startup {
    /// Write startup.md into this folder
    #[arg(long, value_name = "DIR", default_value = "docs/performance")]
    report: PathBuf,
}

/// Of each, a process runs forward and backward of both head dimensions, and so compiles every kernel once.
const DTYPES: [&str; 3] = ["f32", "f16", "bf16"];
const HEAD_DIMS: [&str; 2] = ["D64", "D128"];

/// What a process waited for.
struct Process {
    /// By CubeCL's profile.
    launches: Vec<Launch>,
    /// Of each shape, by the program's clock.
    passes: Vec<f64>,
}

/// A launch that compiled.
#[derive(Debug, PartialEq)]
struct Launch {
    kernel: String,
    seconds: f64,
}

impl Startup {
    /// Sets up, builds the program and starts it twice on each device.
    pub fn run(&self) -> Result<ExitCode> {
        let ready = setup::ensure()?;
        let program = build::program("attention")?;
        let mut page = String::from(INTRODUCTION);
        for device in ["cpu", "vulkan"] {
            match section(device, &program, &ready) {
                Ok(section) => page.push_str(&section),
                Err(error) => eprintln!("warning: nothing is measured on {device}: {error:#}"),
            }
        }
        println!("{page}");
        fs::create_dir_all(&self.report)?;
        let file = self.report.join("startup.md");
        fs::write(&file, page).with_context(|| format!("cannot write {}", file.display()))?;
        Ok(ExitCode::SUCCESS)
    }
}

const INTRODUCTION: &str = "# How long the first launch takes\n\n\
    `cargo xtask startup` wrote this page. A process runs forward and backward of B1 H8 N256 once for each head dimension, \
    and CubeCL's profile says how long each launch took; at this length all but a few milliseconds of the first is \
    compilation. On `vulkan` that is what the driver compiles as the launch begins; CubeCL's lowering before it, and the \
    pipeline, are in the time of the whole pass, by the program's own clock. The second process finds on disk what the first \
    one left there. What is kept, and what is not, is told in \
    [the overview](README.md#first-launches).\n";

fn section(device: &str, program: &Path, ready: &Ready) -> Result<String> {
    let mut text = format!(
        "\n## `{device}`\n\n| | kernel | first process s | second process s |\n|---|---|---|---|\n"
    );
    for dtype in DTYPES {
        let scratch = cache::scratch()?;
        let processes = [0, 1].map(|_| start(device, dtype, program, ready, scratch.path()));
        match processes {
            [Ok(first), Ok(second)] => rows(&mut text, dtype, &first, &second),
            _ => {
                let _ = writeln!(text, "| {dtype} | does not run here | - | - |");
            }
        }
    }
    Ok(text)
}

fn rows(text: &mut String, dtype: &str, first: &Process, second: &Process) {
    let mut row = |dim: &str, what: &str, first: f64, second: f64| {
        let _ = writeln!(
            text,
            "| {dim} {dtype} | {what} | {first:.2} | {second:.2} |"
        );
    };
    let mut dims = HEAD_DIMS.iter();
    let mut dim = "";
    for (first, second) in first.launches.iter().zip(&second.launches) {
        if first.kernel.ends_with(FIRST_OF_A_SHAPE) {
            dim = dims.next().copied().unwrap_or_default();
        }
        row(dim, &first.kernel, first.seconds, second.seconds);
    }
    let passes = first.passes.iter().zip(&second.passes);
    for (dim, (first, second)) in HEAD_DIMS.iter().zip(passes) {
        row(dim, "all of forward and backward", *first, *second);
    }
}

const PASS: &str = "forward+backward";
/// Kernels are called after their engine and one of these.
const STEPS: [&str; 3] = ["Forward", "Backward", "Delta"];
const FIRST_OF_A_SHAPE: &str = STEPS[0];

/// A fresh process, with what earlier ones left in the folder.
fn start(
    device: &str,
    dtype: &str,
    program: &Path,
    ready: &Ready,
    folder: &Path,
) -> Result<Process> {
    let log = folder.join("log");
    if log.exists() {
        fs::remove_file(&log)?;
    }
    let mut bench = build::launch(program, ready);
    bench.args(["bench", "--startup", "--quick", "--device", device]);
    bench.args(["--filter", &format!("N256 {dtype} {PASS}")]);
    bench
        .env("CUBECL_DEBUG_LOG", &log)
        .env("CUBECL_DEBUG_OPTION", "profile-medium")
        .env("MESA_SHADER_CACHE_DIR", folder.join("mesa"));
    let table = process::capture(&mut bench)?;
    let profile = fs::read(&log).context("CubeCL wrote no profile")?;
    let profile = String::from_utf8_lossy(&profile);
    Ok(Process {
        launches: profile.lines().filter_map(launch).collect(),
        passes: table.lines().filter_map(pass).collect(),
    })
}

/// A row of the program's table, `D64 N256 f32 forward+backward  0.781`.
fn pass(row: &str) -> Option<f64> {
    row.split_once(PASS)?.1.trim().parse().ok()
}

/// A line of CubeCL's profile, `| 615.8ms | AttentionForward_c36db6a2`, if it is of a kernel of ours.
fn launch(line: &str) -> Option<Launch> {
    let mut cells = line.split('|').map(str::trim).skip(1);
    let (time, name) = (cells.next()?, cells.next()?);
    let (kernel, _) = name.split_once('_')?;
    if !STEPS.iter().any(|step| kernel.contains(step)) {
        return None;
    }
    Some(Launch {
        kernel: kernel.to_string(),
        seconds: seconds(time)?,
    })
}

/// As Rust prints a duration.
fn seconds(time: &str) -> Option<f64> {
    let units = [("ms", 1e-3), ("µs", 1e-6), ("ns", 1e-9), ("s", 1.0)];
    units.iter().find_map(|(unit, scale)| {
        let number: f64 = time.strip_suffix(unit)?.parse().ok()?;
        Some(number * scale)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_the_profile_names_a_kernel_and_its_time() {
        let found = launch("| 678.5ms | AttentionBackwardQuery_57db7940").expect("it is ours");
        assert_eq!(found.kernel, "AttentionBackwardQuery");
        assert!((found.seconds - 0.6785).abs() < 1e-9);
        assert_eq!(launch("| 1.5s | MatmulEntry_57db7940"), None);
        assert_eq!(launch("Compiling AttentionForward"), None);
    }

    #[test]
    fn a_row_of_the_table_ends_with_the_time_of_its_pass() {
        assert_eq!(pass("D64 N256 f32 forward+backward  0.781"), Some(0.781));
        assert_eq!(pass("B1 H8  first run s"), None);
    }

    #[test]
    fn durations_are_read_in_every_unit() {
        assert_eq!(seconds("1.5s"), Some(1.5));
        assert_eq!(seconds("250ms"), Some(0.25));
        assert!((seconds("800µs").expect("a time") - 8e-4).abs() < 1e-12);
        assert_eq!(seconds("soon"), None);
    }
}
