//! `cargo xtask test`.

use std::{path::Path, process::ExitCode};

use anyhow::Result;

use crate::{build, cache, models, process, setup};

/// Sets up, then runs every test on every runtime that this machine can execute.
///
/// What the tests find in their environment: `ATTENTION_BIN` (the built program), `ATTENTION_RUNNER` (what a
/// child process must be started with to reach the software Vulkan device, absent where a driver is installed)
/// and `ATTENTION_CACHE` (whose `models` folder holds the pretrained weights).
pub fn run(args: &[String]) -> Result<ExitCode> {
    let ready = setup::ensure()?;
    let program = build::program("attention")?;
    if let Err(error) = models::fetch_default("dinov2_s14") {
        eprintln!("warning: tests on pretrained weights cannot run: {error:#}");
    }
    let mut test = process::cargo();
    test.arg("test");
    if let Some(runner) = &ready.runner {
        test.arg("--config")
            .arg(runner_config(runner))
            .env("ATTENTION_RUNNER", runner);
    }
    test.args(["--workspace", "--no-fail-fast"]).args(args);
    test.env("ATTENTION_BIN", &program)
        .env("ATTENTION_CACHE", cache::folder()?);
    let code = process::exit_code(&mut test)?;

    println!("\nThe tests ran on these devices:");
    process::stream(build::launch(&program, &ready).arg("devices"))?;
    Ok(code)
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
