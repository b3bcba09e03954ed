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
    compilation. The second process finds on disk what the first one left there. What is kept, and what is not, is told in \
    [the overview](README.md#first-launches).\n";

fn section(device: &str, program: &Path, ready: &Ready) -> Result<String> {
    let mut text = format!(
        "\n## `{device}`\n\n| | kernel | first process s | second process s |\n|---|---|---|---|\n"
    );
    let mut longest = [0.0, 0.0];
    for dtype in DTYPES {
        let scratch = cache::scratch()?;
        let processes = [0, 1].map(|_| launches(device, dtype, program, ready, scratch.path()));
        let [Ok(first), Ok(second)] = processes else {
            let _ = writeln!(text, "| {dtype} | does not run here | - | - |");
            continue;
        };
        let mut dims = HEAD_DIMS.iter();
        let mut dim = "";
        for (first, second) in first.iter().zip(&second) {
            if first.kernel == FIRST_OF_A_SHAPE {
                dim = dims.next().copied().unwrap_or_default();
            }
            let (kernel, seconds) = (&first.kernel, [first.seconds, second.seconds]);
            let _ = writeln!(
                text,
                "| {dim} {dtype} | {kernel} | {:.2} | {:.2} |",
                seconds[0], seconds[1]
            );
            longest = [0, 1].map(|process| f64::max(longest[process], seconds[process]));
        }
    }
    let [first, second] = longest;
    let _ = writeln!(
        text,
        "\nThe longest: {first:.2} s, in a second process {second:.2} s."
    );
    Ok(text)
}

const FIRST_OF_A_SHAPE: &str = "AttentionForward";

/// The launches of attention's kernels in a fresh process.
fn launches(
    device: &str,
    dtype: &str,
    program: &Path,
    ready: &Ready,
    folder: &Path,
) -> Result<Vec<Launch>> {
    let log = folder.join("log");
    if log.exists() {
        fs::remove_file(&log)?;
    }
    let mut bench = build::launch(program, ready);
    bench.args(["bench", "--startup", "--quick", "--device", device]);
    bench.args(["--filter", &format!("N256 {dtype} forward+backward")]);
    bench
        .env("CUBECL_DEBUG_LOG", &log)
        .env("CUBECL_DEBUG_OPTION", "profile-medium")
        .env("MESA_SHADER_CACHE_DIR", folder.join("mesa"));
    process::capture(&mut bench)?;
    let text = fs::read(&log).context("CubeCL wrote no profile")?;
    let text = String::from_utf8_lossy(&text);
    Ok(text.lines().filter_map(launch).collect())
}

/// A line of CubeCL's profile, `| 615.8ms | AttentionForward_c36db6a2`, if it is of a kernel of ours.
fn launch(line: &str) -> Option<Launch> {
    let mut cells = line.split('|').map(str::trim).skip(1);
    let (time, name) = (cells.next()?, cells.next()?);
    let (kernel, _) = name.split_once('_')?;
    if !kernel.starts_with("Attention") {
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
    fn durations_are_read_in_every_unit() {
        assert_eq!(seconds("1.5s"), Some(1.5));
        assert_eq!(seconds("250ms"), Some(0.25));
        assert!((seconds("800µs").expect("a time") - 8e-4).abs() < 1e-12);
        assert_eq!(seconds("soon"), None);
    }
}
