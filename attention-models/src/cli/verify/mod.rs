//! `attention verify`: the conformance suite, for a user's own device.

mod bound;
pub mod case;
mod composed;
mod differential;
mod dropout;
mod flex;
mod goldens;
mod mha;
mod operations;
mod packed;
mod report;
mod rope;
mod run;
mod sinks;
mod split;
pub mod variants;

use std::{path::PathBuf, process::ExitCode};

use anyhow::Result;
use attention_kernels::catalog;
use burn::tensor::Device;
use clap::Args;

use case::{Case, check_all};

pub use bound::{Devices, bound, distance, largest};
pub use goldens::{Golden, golden_folders};
pub use report::Report;
pub use run::{burn_dtype, upload, upload_mask};

use crate::{
    cli::progress,
    device::{self, DeviceKind},
};

/// Check a device: every kernel against its oracle, and against what other implementations computed
#[derive(Debug, Args)]
pub struct VerifyArgs {
    /// The device: auto, cpu, cubecl-cpu, vulkan, wgpu, cuda, rocm or metal
    #[arg(long, default_value = "auto", value_name = "D")]
    device: String,
    /// Also check every golden folder in here
    #[arg(long, value_name = "DIR")]
    goldens: Option<PathBuf>,
    /// Only checks whose name contains this
    #[arg(long, value_name = "S")]
    filter: Option<String>,
}

/// Runs the checks, prints the table, and fails when any check fails or none ran.
///
/// # Errors
/// A device that is not there, or a folder that cannot be read.
pub fn run(args: &VerifyArgs) -> Result<ExitCode> {
    let kind = device::by_name(&args.device)?;
    let device = kind.open()?;
    let goldens = match &args.goldens {
        Some(folder) => golden_folders(folder)?,
        None => Vec::new(),
    };
    let wanted = |name: &str| args.filter.as_ref().is_none_or(|part| name.contains(part));

    let entries = catalog::softmax()
        .into_iter()
        .filter(|entry| wanted(&entry.name));
    let cases: Vec<_> = entries.map(|entry| Case::of(&entry)).collect();
    let mut report = Report::default();
    verify_catalog(&cases, kind, &device, &mut report)?;
    let goldens: Vec<_> = goldens
        .iter()
        .filter(|golden| wanted(&golden.name))
        .collect();
    let bar = progress(goldens.len())?;
    for golden in goldens {
        golden.check(Devices::same(&device), &mut report, |step| {
            bar.set_message(step.to_string());
        });
        bar.inc(1);
    }
    bar.finish_and_clear();
    print!("{report}");
    Ok(report.exit_code())
}

fn verify_catalog(
    cases: &[Case],
    kind: DeviceKind,
    device: &Device,
    report: &mut Report,
) -> Result<()> {
    let offered = kind.facts()?.dtypes;
    let dtypes: Vec<_> = offered
        .into_iter()
        .filter(|&dtype| device.supports_dtype(burn_dtype(dtype)))
        .collect();
    let bar = progress(cases.len() * dtypes.len())?;
    for dtype in dtypes {
        let step = |case: &Case| {
            bar.set_message(case.name.clone());
            bar.inc(1);
        };
        let outcomes = check_all(cases, dtype, Devices::same(device), step);
        for (case, rows) in cases.iter().zip(outcomes) {
            report.add(&case.name, rows);
        }
    }
    bar.finish_and_clear();
    Ok(())
}
