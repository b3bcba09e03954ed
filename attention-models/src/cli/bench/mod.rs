//! `attention bench`: our attention beside Burn's own, in one run on one device.

mod code;
mod cubek;
mod measure;
mod report;
pub mod workload;

use std::{fs, path::PathBuf, time::Duration};

use anyhow::{Context, Result, ensure};
use clap::Args;

use cubek::UnitKernel;
use measure::{Run, Timings, measure, product_rate};
use report::{Line, print};
use workload::{Contender, Shape, Workload, shapes};

use crate::{
    cli::progress,
    device::{self, DeviceKind},
};

/// Measure attention beside Burn's own on the same device and beside its flex backend
#[derive(Debug, Args)]
pub struct BenchArgs {
    /// The device: auto, cpu, vulkan, wgpu, cuda, rocm or metal
    #[arg(long, default_value = "auto", value_name = "D")]
    device: String,
    /// Also write the numbers to this file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Only shapes whose name contains this, such as `N1024 f32 causal`
    #[arg(long, value_name = "S")]
    filter: Option<String>,
    /// Leave out the longest sequence, and measure for a shorter time
    #[arg(long)]
    quick: bool,
    /// Measure what masks, score modifications and block maps as code cost and save, instead
    #[arg(long, conflicts_with = "json")]
    code: bool,
}

/// Measures every shape, says what each gave, and prints the table.
///
/// # Errors
/// A device that is not there, a filter that leaves nothing, or a file that cannot be written.
pub fn run(args: &BenchArgs) -> Result<()> {
    let kind = device::by_name(&args.device)?;
    kind.open()?;
    if args.code {
        return code::run(kind, args.quick, args.filter.as_deref());
    }
    let wanted = |shape: &Shape| {
        let name = shape.to_string();
        args.filter.as_ref().is_none_or(|part| name.contains(part))
    };
    let shapes: Vec<_> = shapes(args.quick)
        .into_iter()
        .filter(|shape| wanted(shape) && shape.runs_on(kind))
        .collect();
    ensure!(
        !shapes.is_empty(),
        "no shape that {kind} can run has `{}` in its name",
        args.filter.as_deref().unwrap_or_default()
    );
    let time = Duration::from_secs(if args.quick { 1 } else { 3 });

    let bar = progress(shapes.len())?;
    let mut lines = Vec::new();
    for shape in shapes {
        bar.set_message(shape.to_string());
        let line = measure_shape(shape, kind, time)?;
        bar.suspend(|| eprintln!("{line}"));
        bar.inc(1);
        lines.push(line);
    }
    bar.finish_and_clear();
    print(kind, &lines)?;
    if let Some(path) = &args.json {
        let text = serde_json::to_string_pretty(&report::json(kind, &lines)?)?;
        fs::write(path, text).with_context(|| format!("`{}` cannot be written", path.display()))?;
    }
    Ok(())
}

fn measure_shape(shape: Shape, kind: DeviceKind, time: Duration) -> Result<Line> {
    let (here, flex) = (kind.open()?, DeviceKind::Cpu.open()?);
    let ours = Workload::new(shape, Contender::Ours, &here);
    let client = kind.client()?;
    let (first, peak_memory) = measure::first_run(&ours, &client)?;
    ours.check()?;
    let on_flex = Workload::new(shape, Contender::Burn, &flex);
    // On `cpu`, Burn's own attention is flex's, and a unit is a core, which cubek's kernel is not
    // made for; it has no backward.
    let elsewhere = kind != DeviceKind::Cpu;
    let burn = elsewhere.then(|| Workload::new(shape, Contender::Burn, &here));
    let burn = burn.filter(|burn| runs("Burn's attention", shape, kind, burn.check()));
    let unit = (elsewhere && !shape.backward).then(|| UnitKernel::new(&ours, &client));
    let unit = unit.filter(|unit| runs("cubek's unit kernel", shape, kind, unit.run()));
    let mut contenders: Vec<Run> = vec![Box::new(|| ours.run()), Box::new(|| on_flex.run())];
    contenders.extend(burn.as_ref().map(|burn| Box::new(|| burn.run()) as Run));
    contenders.extend(unit.as_ref().map(|unit| Box::new(|| unit.run()) as Run));

    let medians = measure(&contenders, time)?;
    let (flex, others) = (medians[1], &medians[2..]);
    let timings = Timings {
        ours: medians[0],
        flex,
        burn: if elsewhere {
            burn.as_ref().and(others.first().copied())
        } else {
            Some(flex)
        },
        cubek: unit.as_ref().and(others.last().copied()),
    };
    Ok(Line {
        shape,
        first,
        peak_memory,
        timings,
        product_rate: product_rate(shape.dtype, &here)?,
    })
}

/// Whether a peer ran; says why not.
fn runs(peer: &str, shape: Shape, kind: DeviceKind, outcome: Result<()>) -> bool {
    if let Err(error) = &outcome {
        eprintln!("{shape}: {peer} does not run on {kind}: {error}");
    }
    outcome.is_ok()
}
