//! `cargo xtask startup`: how long a process waits for each kernel to be compiled, with and without what an earlier
//! process left on disk.

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
    time::{Duration, Instant},
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
#[derive(Default)]
struct Process {
    launches: Vec<Launch>,
    /// Of each shape, by the program's clock.
    passes: Vec<f64>,
}

/// A launch that compiled.
struct Launch {
    kernel: String,
    /// From the end of the launch before it.
    waited: f64,
    /// Of those, by CubeCL's profile.
    launched: f64,
}

/// A launch in CubeCL's profile.
struct Profiled<'a> {
    kernel: &'a str,
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
    `cargo xtask startup` wrote this page. A process runs forward and backward of B1 H8 N256 once for each head dimension; \
    at this length all but a few milliseconds of the first launch is compilation. It waits for a kernel from the end of the \
    launch before it to the end of the kernel's own, by the clock of who reads CubeCL's profile; of that, the launch is what \
    the profile says. On `vulkan` the launch is what the driver compiles, and most of the rest is CubeCL's lowering to SPIR-V; \
    on `cpu` the launch is all. The second process finds on disk what the first one left there. What is kept, and what is \
    not, is told in [the overview](README.md#first-launches).\n";

/// Of the folder that the process starts in.
const CUBECL_CONFIGURATION: &str = "[profiling.logger]\nlevel = \"medium\"\nstdout = true\n";

const BACKTRACES: [&str; 2] = ["RUST_BACKTRACE", "RUST_LIB_BACKTRACE"];

fn section(device: &str, program: &Path, ready: &Ready) -> Result<String> {
    let mut text = format!(
        "\n## `{device}`\n\n| | kernel | first process s | of it the launch | second process s | of it the launch |\n\
        |---|---|---|---|---|---|\n"
    );
    for dtype in DTYPES {
        let scratch = cache::scratch()?;
        let processes = [0, 1].map(|_| start(device, dtype, program, ready, scratch.path()));
        match processes {
            [Ok(first), Ok(second)] => rows(&mut text, dtype, &first, &second),
            _ => {
                let _ = writeln!(text, "| {dtype} | does not run here | - | - | - | - |");
            }
        }
    }
    Ok(text)
}

fn rows(text: &mut String, dtype: &str, first: &Process, second: &Process) {
    let mut dims = HEAD_DIMS.iter();
    let mut dim = "";
    for (first, second) in first.launches.iter().zip(&second.launches) {
        if first.kernel.ends_with(FIRST_OF_A_SHAPE) {
            dim = dims.next().copied().unwrap_or_default();
        }
        let _ = writeln!(
            text,
            "| {dim} {dtype} | {} | {:.2} | {:.2} | {:.2} | {:.2} |",
            first.kernel, first.waited, first.launched, second.waited, second.launched
        );
    }
    let passes = first.passes.iter().zip(&second.passes);
    for (dim, (first, second)) in HEAD_DIMS.iter().zip(passes) {
        let _ = writeln!(
            text,
            "| {dim} {dtype} | all of forward and backward | {first:.2} | | {second:.2} | |"
        );
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
    fs::write(folder.join("cubecl.toml"), CUBECL_CONFIGURATION)?;
    let mut bench = build::launch(program, ready);
    bench.args(["bench", "--startup", "--quick", "--device", device]);
    bench.args(["--filter", &format!("N256 {dtype} {PASS}")]);
    bench
        .current_dir(folder)
        .env("MESA_SHADER_CACHE_DIR", folder.join("mesa"));
    // The compiler passes make errors to say no, and each would carry a backtrace.
    for name in BACKTRACES {
        bench.env_remove(name);
    }
    let mut seen = Process::default();
    let clock = Instant::now();
    let mut last = Duration::ZERO;
    process::each_line(&mut bench, |line| {
        if let Some(seconds) = pass(line) {
            seen.passes.push(seconds);
        }
        let Some(Profiled { kernel, seconds }) = profiled(line) else {
            return;
        };
        let waited = clock.elapsed().saturating_sub(last).as_secs_f64();
        last = clock.elapsed();
        if STEPS.iter().any(|step| kernel.contains(step)) {
            seen.launches.push(Launch {
                kernel: kernel.to_string(),
                waited,
                launched: seconds,
            });
        }
    })?;
    Ok(seen)
}

/// A row of the program's table, `D64 N256 f32 forward+backward  0.781`.
fn pass(row: &str) -> Option<f64> {
    row.split_once(PASS)?.1.trim().parse().ok()
}

/// A line of CubeCL's profile, `| 615.8ms | AttentionForward_c36db6a2`.
fn profiled(line: &str) -> Option<Profiled<'_>> {
    let mut cells = line.split('|').map(str::trim).skip(1);
    let (time, name) = (cells.next()?, cells.next()?);
    Some(Profiled {
        kernel: name.rsplit_once('_').map_or(name, |(kernel, _)| kernel),
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
        let found = profiled("| 678.5ms | AttentionBackwardQuery_57db7940").expect("a launch");
        assert_eq!(found.kernel, "AttentionBackwardQuery");
        assert!((found.seconds - 0.6785).abs() < 1e-9);
        assert!(profiled("| AttentionDelta_282fdde0 | 656.4µs | 1 | 0 % |").is_none());
        assert!(profiled("Compiling AttentionForward").is_none());
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
