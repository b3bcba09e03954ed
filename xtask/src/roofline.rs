//! `cargo xtask roofline`.

use std::{path::PathBuf, process::ExitCode};

use anyhow::Result;
use clap::Args;

use crate::{build, process, setup};

/// What `cargo xtask roofline` takes.
#[derive(Args)]
pub struct Roofline {
    /// Also measure this device's rates and predict for it
    #[arg(long, value_name = "D", default_value = "vulkan")]
    device: String,
    /// The folder with the compile matrix' matrix.json, for roofline.md
    #[arg(long, value_name = "DIR", default_value = "docs/performance")]
    report: PathBuf,
}

impl Roofline {
    /// Sets up, builds the program and lets it predict.
    pub fn run(&self) -> Result<ExitCode> {
        let ready = setup::ensure()?;
        let program = build::program("attention")?;
        let mut roofline = build::launch(&program, &ready);
        roofline.args(["roofline", "--device", &self.device, "--report"]);
        roofline.arg(&self.report);
        let matrix = self.report.join("matrix.json");
        if matrix.exists() {
            roofline.arg("--matrix").arg(matrix);
        }
        process::exit_code(&mut roofline)
    }
}
