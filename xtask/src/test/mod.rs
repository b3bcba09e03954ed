//! `cargo xtask test`.

mod group;
mod pool;

use std::{
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

use anyhow::Result;

use crate::{
    build, cache, models, process,
    setup::{self, Ready},
};

/// Sets up, then runs every test on every runtime that this machine can execute; with `args`, what
/// `cargo test --workspace` makes of them.
pub fn run(args: &[String]) -> Result<ExitCode> {
    let ready = setup::ensure()?;
    let environment = Environment {
        program: build::program("attention")?,
        cache: cache::folder()?,
        ready,
    };
    if let Err(error) = models::fetch_default("dinov2_s14") {
        eprintln!("warning: tests on pretrained weights cannot run: {error:#}");
    }
    let passed = if args.is_empty() {
        let groups = group::all(&environment)?;
        let grouped = pool::run(&environment, groups)?;
        grouped & succeeds(environment.cargo_test().arg("--doc"))?
    } else {
        succeeds(environment.cargo_test().args(args))?
    };

    println!("\nThe tests ran on these devices:");
    process::stream(environment.launch(&environment.program).arg("devices"))?;
    Ok(ExitCode::from(u8::from(!passed)))
}

fn succeeds(command: &mut Command) -> Result<bool> {
    Ok(process::exit_code(command)? == ExitCode::SUCCESS)
}

/// What the tests find: `ATTENTION_BIN` (the built program), `ATTENTION_RUNNER` (what a child process must be
/// started with to reach the software Vulkan device, absent where a driver is installed) and `ATTENTION_CACHE`
/// (whose `models` folder holds the pretrained weights).
struct Environment {
    program: PathBuf,
    cache: PathBuf,
    ready: Ready,
}

impl Environment {
    /// A command that runs a test program as [`Self::cargo_test`] would.
    fn launch(&self, program: &Path) -> Command {
        let mut command = build::launch(program, &self.ready);
        self.give_to(&mut command);
        command
    }

    fn cargo_test(&self) -> Command {
        let mut test = process::cargo();
        test.arg("test");
        if let Some(runner) = &self.ready.runner {
            test.arg("--config").arg(runner_config(runner));
        }
        test.args(["--workspace", "--no-fail-fast"]);
        self.give_to(&mut test);
        test
    }

    fn give_to(&self, command: &mut Command) {
        if let Some(runner) = &self.ready.runner {
            command.env("ATTENTION_RUNNER", runner);
        }
        // CubeCL's passes make an error wherever they do not apply: with backtraces a kernel is lowered for a sixth
        // longer. Panics keep theirs.
        command
            .env("RUST_LIB_BACKTRACE", "0")
            .env("ATTENTION_BIN", &self.program)
            .env("ATTENTION_CACHE", &self.cache);
    }
}

/// Cargo starts test programs, doc tests included, through the runner. A list, because Cargo would split a
/// path that contains spaces.
fn runner_config(runner: &Path) -> String {
    format!(
        "target.'cfg(unix)'.runner = [{:?}]",
        runner.display().to_string()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_runner_path_with_spaces_stays_one_argument() {
        let config = runner_config(Path::new("/home/a b/run"));
        assert_eq!(config, r#"target.'cfg(unix)'.runner = ["/home/a b/run"]"#);
    }
}
