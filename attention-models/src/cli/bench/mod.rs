//! `attention bench`: our attention beside Burn's own, in one run on one device.

mod cubek;
mod measure;
mod report;
pub mod workload;

use std::{fs, path::PathBuf, time::Duration};

use anyhow::{Context, Result, ensure};
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};

use cubek::UnitKernel;
use measure::{Timings, measure, product_rate};
use report::{Line, print};
use workload::{Contender, Shape, Workload, shapes};

use crate::device::{self, DeviceKind};

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
}

/// Measures every shape, says what each gave, and prints the table.
///
/// # Errors
/// A device that is not there, a filter that leaves nothing, or a file that cannot be written.
pub fn run(args: &BenchArgs) -> Result<()> {
    let kind = device::by_name(&args.device)?;
    kind.open()?;
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

    let style = ProgressStyle::with_template("{pos}/{len} {wide_bar} {msg}")?;
    let bar = ProgressBar::new(shapes.len() as u64).with_style(style);
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
    // On `cpu`, Burn's own attention is flex's.
    let on_flex = Workload::new(shape, Contender::Burn, &flex);
    let burn = match kind {
        DeviceKind::Cpu => None,
        _ => Some(Workload::new(shape, Contender::Burn, &here)),
    };
    let burn = burn.filter(|burn| match burn.check() {
        Ok(()) => true,
        Err(error) => {
            eprintln!("{shape}: Burn's attention does not run on {kind}: {error}");
            false
        }
    });
    // On `cpu` a unit is a core, which this kernel is not made for; it has no backward.
    let unit =
        (kind != DeviceKind::Cpu && !shape.backward).then(|| UnitKernel::new(&ours, &client));
    if let Some(unit) = &unit {
        unit.run()?;
    }
    let run_ours = || ours.run();
    let run_flex = || on_flex.run();
    let run_burn = burn.as_ref().map(|burn| || burn.run());
    let run_unit = unit.as_ref().map(|unit| {
        || {
            unit.run()
                .expect("invariant: what ran once on a device runs again");
        }
    });
    let mut contenders: Vec<&dyn Fn()> = vec![&run_ours, &run_flex];
    contenders.extend(run_burn.as_ref().map(|run| run as &dyn Fn()));
    contenders.extend(run_unit.as_ref().map(|run| run as &dyn Fn()));
    let mut medians = measure(&contenders, time).into_iter();
    let mut next = || medians.next().expect("invariant: a median per contender");
    let (ours, flex) = (next(), next());
    let timings = Timings {
        ours,
        flex,
        burn: match kind {
            DeviceKind::Cpu => Some(flex),
            _ => run_burn.is_some().then(&mut next),
        },
        cubek: run_unit.is_some().then(next),
    };
    Ok(Line {
        shape,
        first,
        peak_memory,
        timings,
        product_rate: product_rate(shape.dtype, &here),
    })
}
