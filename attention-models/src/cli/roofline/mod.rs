//! `attention roofline`: how long attention takes at least on devices that are not at hand, and on one that is.

mod mixes;
mod page;

use std::{fs, path::PathBuf};

use anyhow::{Context, Result, ensure};
use attention_core::{
    AttentionProblem, AttentionSpec, DType,
    roofline::{
        DEVICES, DeviceRoofs, Limit, Prediction, Stated, Work, backward_work, forward_work, pass,
        predict,
    },
};
use attention_kernels::rates;
use clap::Args;

use mixes::Mixes;

use super::bench::{
    measure::{bandwidth, product_rate},
    shape::{Scale, shapes},
};
use crate::{
    cli::table::Table,
    device::{self, DeviceKind},
};

/// Predict the time of attention on GPUs from their data sheets, and on a device at hand from what it measures
#[derive(Debug, Args)]
pub struct RooflineArgs {
    /// Only shapes whose name contains this, such as `D64 N1024 f16 causal` or `decoding`
    #[arg(long, value_name = "S", default_value = "")]
    shape: String,
    /// Also measure this device's rates and predict for it
    #[arg(long, value_name = "D")]
    device: Option<String>,
    /// The compile matrix' numbers, for what compilers made of the hot loops
    #[arg(long, value_name = "FILE")]
    matrix: Option<PathBuf>,
    /// Write roofline.md into this folder
    #[arg(long, value_name = "DIR")]
    report: Option<PathBuf>,
}

/// A shape that is predicted.
struct Case {
    name: String,
    problem: AttentionProblem,
    spec: AttentionSpec,
    dtype: DType,
    backward: bool,
}

impl Case {
    fn kernels(&self) -> Vec<Work> {
        let mut kernels = vec![forward_work(&self.problem, &self.spec, self.dtype)];
        if self.backward {
            kernels.extend(backward_work(&self.problem, &self.spec, self.dtype));
        }
        kernels
    }
}

/// What a pass takes.
struct Time {
    bound: f64,
    expected: f64,
    limit: Limit,
}

/// Prints the predictions.
///
/// # Errors
/// A device that is not there, a shape that is not predicted, or a file that cannot be read or written.
pub fn run(args: &RooflineArgs) -> Result<()> {
    let mut cases = cases();
    cases.retain(|case| case.name.contains(&args.shape));
    ensure!(
        !cases.is_empty(),
        "no shape has `{}` in its name",
        args.shape
    );
    let mut devices = DEVICES.to_vec();
    if let Some(name) = &args.device {
        devices.push(measured(device::by_name(name)?)?);
    }
    let mixes = match &args.matrix {
        Some(file) => Mixes::read(file)?,
        None => Mixes::default(),
    };
    println!("{}", table(&cases, &devices, &mixes));
    println!("milliseconds: at the peak rates, and as expected; what the longest kernel waits for");
    if let Some(folder) = &args.report {
        let file = folder.join("roofline.md");
        let text = page::page(&cases, &devices, &mixes);
        fs::create_dir_all(folder)
            .and_then(|()| fs::write(&file, text))
            .with_context(|| format!("`{}` cannot be written", file.display()))?;
    }
    Ok(())
}

/// The shapes of `attention bench`.
fn cases() -> Vec<Case> {
    // bf16 is as f16 on all of these devices.
    let shapes = [Scale::Cores, Scale::Chip].map(|scale| shapes(scale, false));
    let shapes = shapes
        .into_iter()
        .flatten()
        .filter(|shape| shape.dtype != DType::BF16);
    let mut cases: Vec<_> = shapes
        .map(|shape| Case {
            name: shape.to_string(),
            problem: shape.problem(),
            spec: shape.spec(),
            dtype: shape.dtype,
            backward: shape.backward,
        })
        .collect();
    cases.sort_by_key(|case| case.dtype != DType::F16);
    cases
}

fn time(case: &Case, device: &DeviceRoofs, mixes: &Mixes) -> Time {
    let dim = case.problem.head_dim;
    let causal = case.spec.causal.is_some();
    let kernels = case.kernels();
    let predictions: Vec<Prediction> = kernels
        .iter()
        .map(|work| predict(work, device, mixes.of(device, work, dim, causal)))
        .collect();
    let (bound, expected, limit) = pass(&predictions, device);
    Time {
        bound,
        expected,
        limit,
    }
}

fn table(cases: &[Case], devices: &[DeviceRoofs], mixes: &Mixes) -> Table {
    let mut headings = vec!["shape"];
    headings.extend(devices.iter().map(|device| device.name));
    let mut table = Table::new(headings);
    for case in cases {
        table.push(row(case, devices, mixes));
    }
    table
}

fn row(case: &Case, devices: &[DeviceRoofs], mixes: &Mixes) -> Vec<String> {
    let mut cells = vec![case.name.clone()];
    cells.extend(devices.iter().map(|device| {
        let time = time(case, device, mixes);
        let milliseconds = [time.bound, time.expected].map(|seconds| figures(1e3 * seconds));
        format!("{} {}", milliseconds.join(" "), time.limit.name())
    }));
    cells
}

/// With two figures after the first that is not 0.
fn figures(number: f64) -> String {
    let places = (2.0 - number.max(1e-9).log10().floor()).clamp(0.0, 9.0) as usize;
    format!("{number:.places$}")
}

/// The rates of a device at hand.
fn measured(kind: DeviceKind) -> Result<DeviceRoofs> {
    const HERE: &str = "measured by `attention roofline --device`";
    let stated = |value| Stated {
        value,
        source: HERE,
    };
    let client = kind.client()?;
    let vector = rates::vector_rate(&client).context("the device does not compute")?;
    let launch = rates::launch_time(&client).context("the device does not compute")?;
    // A product that is no faster than vector instructions is made of them.
    let matrix = |dtype| -> Result<Option<Stated>> {
        if !kind.facts()?.dtypes.contains(&dtype) {
            return Ok(None);
        }
        let rate = product_rate(dtype, kind)?;
        Ok((rate > 1.2 * vector).then(|| stated(rate)))
    };
    let cores = std::thread::available_parallelism()?.get() as u64;
    Ok(DeviceRoofs {
        name: kind.name(),
        target: None,
        cores: if kind.is_software() { cores } else { 1 },
        matrix: [
            matrix(DType::F32)?,
            matrix(DType::F16)?,
            matrix(DType::BF16)?,
        ],
        vector: stated(vector),
        exponentials: None,
        bandwidth: stated(bandwidth(kind)?),
        issue: None,
        reached: Stated {
            value: 0.5,
            source: "assumed",
        },
        launch: stated(launch.as_secs_f64()),
        remark: "Exponentials count as the vector instructions of a polynomial.",
    })
}

#[cfg(test)]
mod tests {
    use super::figures;

    #[test]
    fn numbers_keep_three_figures_however_small_they_are() {
        assert_eq!(figures(1234.6), "1235");
        assert_eq!(figures(12.345), "12.3");
        assert_eq!(figures(0.000_271_9), "0.000272");
    }
}
