//! `attention bench`: our attention beside its peers, in one run on one device.

mod code;
mod cubek;
mod machine;
pub(super) mod measure;
mod models;
mod page;
mod peers;
mod plots;
mod report;
pub mod shape;
mod startup;
mod tuned;
pub mod workload;

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use attention_core::DType;
use clap::Args;

use cubek::UnitKernel;
use machine::Machine;
use measure::{Turn, measure, product_rate, queue, repeat};
use peers::{Peers, Subject};
use report::{Line, Report, Who};
use shape::{Pass, Scale, Shape, shapes};
use workload::{Contender, Workload};

use crate::{
    cli::progress,
    device::{self, DeviceKind},
};

/// Measure attention beside Burn's own on the same device, its flex backend, torch and onnxruntime
#[derive(Debug, Args)]
pub struct BenchArgs {
    /// The device: auto, cpu, cubecl-cpu, vulkan, wgpu, cuda, rocm or metal
    #[arg(long, default_value = "auto", value_name = "D")]
    device: String,
    /// Also write the numbers to this file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Also write a page, pictures and the numbers into this folder
    #[arg(long, value_name = "DIR")]
    report: Option<PathBuf>,
    /// A Python with torch and onnxruntime, which then take turns with ours; `cargo xtask bench` has one
    #[arg(long, value_name = "PYTHON")]
    peers: Option<PathBuf>,
    /// A line for the report, such as the version of a library
    #[arg(long, value_name = "TEXT")]
    note: Vec<String>,
    /// Only shapes whose name contains this, such as `D64 N1024 f32 causal`
    #[arg(long, value_name = "S")]
    filter: Option<String>,
    /// Leave out the longest sequence, and measure for a shorter time
    #[arg(long)]
    quick: bool,
    /// Run every shape once and say how long that took, instead
    #[arg(long, conflicts_with_all = ["json", "report", "peers", "note", "code", "models"])]
    startup: bool,
    /// Measure what masks, score modifications and block maps as code cost and save, instead
    #[arg(long, conflicts_with_all = ["json", "report", "peers", "note", "models"])]
    code: bool,
    /// Measure the default plan beside the one that the tuner chooses, instead
    #[arg(long, conflicts_with_all = ["json", "report", "peers", "note", "code", "models", "startup"])]
    tuned: bool,
    /// Measure whole models that `cargo xtask models fetch` has fetched, instead
    #[arg(long)]
    models: bool,
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
    if args.models {
        let (peers, notes) = peers(args, Subject::Models)?;
        return models::run(models::Request {
            kind,
            peers: peers.as_ref(),
            notes,
            filter: args.filter.as_deref(),
            quick: args.quick,
            json: args.json.as_deref(),
            report: args.report.as_deref(),
        });
    }
    let shapes = wanted(args, kind)?;
    if args.startup {
        return startup::run(kind, &shapes);
    }
    let time = Duration::from_secs(if args.quick { 2 } else { 6 });
    if args.tuned {
        return tuned::run(kind, &shapes, time);
    }
    let (peers, notes) = peers(args, Subject::Attention)?;
    let products = products(&shapes, kind, peers.as_ref())?;
    let bandwidth = measure::bandwidth(kind)?;
    let report = Report {
        kind,
        machine: Machine::here(kind, notes)?,
        lines: lines(shapes, kind, time, peers.as_ref())?,
        products,
        bandwidth,
    };
    report.print()?;
    if let Some(file) = &args.json {
        write(file, &report.json()?)?;
    }
    if let Some(folder) = &args.report {
        page::write_into(&report, folder)?;
    }
    Ok(())
}

/// The Python, if there is one, and the lines for the report with the versions of what it has.
fn peers(args: &BenchArgs, subject: Subject) -> Result<(Option<Peers>, Vec<String>)> {
    let python = args.peers.as_deref();
    let peers = python
        .map(|python| Peers::start(python, subject))
        .transpose()?;
    let mut notes = args.note.clone();
    if let Some(peers) = &peers {
        let versions = peers.versions.iter();
        notes.extend(versions.map(|(who, version)| format!("{} {version}", who.name())));
    }
    Ok((peers, notes))
}

fn wanted(args: &BenchArgs, kind: DeviceKind) -> Result<Vec<Shape>> {
    let wanted = |shape: &Shape| {
        let name = shape.to_string();
        args.filter.as_ref().is_none_or(|part| name.contains(part))
    };
    let shapes: Vec<_> = shapes(Scale::of(kind), args.quick)
        .into_iter()
        .filter(|shape| wanted(shape) && shape.runs_on(kind))
        .collect();
    ensure!(
        !shapes.is_empty(),
        "no shape that {kind} can run has `{}` in its name",
        args.filter.as_deref().unwrap_or_default()
    );
    Ok(shapes)
}

fn lines(
    shapes: Vec<Shape>,
    kind: DeviceKind,
    time: Duration,
    peers: Option<&Peers>,
) -> Result<Vec<Line>> {
    let bar = progress(shapes.len())?;
    let mut lines = Vec::new();
    for shape in shapes {
        bar.set_message(shape.to_string());
        let line = measure_shape(shape, kind, time, peers)?;
        bar.suspend(|| eprintln!("{line}"));
        bar.inc(1);
        lines.push(line);
    }
    bar.finish_and_clear();
    Ok(lines)
}

fn measure_shape(
    shape: Shape,
    kind: DeviceKind,
    time: Duration,
    peers: Option<&Peers>,
) -> Result<Line> {
    let (here, flex) = (kind.open()?, DeviceKind::Cpu.open()?);
    let ours = Workload::new(shape, Contender::Ours, &here);
    let client = kind.client()?;
    let (first, peak_memory) = measure::first_run(&ours, &client)?;
    ours.check()?;
    // On what a chip is measured with, the processor and kernels without matrix units would take minutes.
    let cores = Scale::of(kind) == Scale::Cores;
    let on_flex = cores.then(|| Workload::new(shape, Contender::Burn, &flex));
    // On `cpu`, Burn's own attention is flex's; on `cubecl-cpu` its backward does not end in minutes.
    let elsewhere = kind != DeviceKind::Cpu;
    let runtime = kind == DeviceKind::CubeclCpu;
    let burn = elsewhere && !(runtime && shape.pass() == Pass::Backward);
    let burn = burn.then(|| Workload::new(shape, Contender::Burn, &here));
    let burn = burn.filter(|burn| runs(Who::Burn, shape, kind, burn.check()));
    // Cubek's kernel has no backward, and is not made for units that are cores.
    let unit = elsewhere && !runtime && cores && shape.pass() == Pass::Forward;
    let unit = unit.then(|| UnitKernel::new(&ours, &client));
    let unit = unit.filter(|unit| runs(Who::Cubek, shape, kind, unit.run()));
    let contenders = [
        (Who::Ours, Some(&ours)),
        (Who::Flex, on_flex.as_ref()),
        (Who::Burn, burn.as_ref()),
    ];
    let runs = Scale::of(kind).runs_per_wait();
    let mut turns: Vec<(Who, Turn)> = Vec::new();
    for (who, contender) in contenders {
        turns.extend(contender.map(|contender| {
            let turn = queue(runs, |runs| contender.run_queued(runs));
            (who, turn)
        }));
    }
    turns.extend(
        unit.as_ref()
            .map(|unit| (Who::Cubek, repeat(|| unit.run()))),
    );
    let mut graph = None;
    if let (Some(peers), Some(device)) = (peers, peers::device_for(kind)) {
        for (who, _) in &peers.versions {
            let mut what = serde_json::to_value(shape)?;
            what["device"] = device.into();
            what["runs"] = runs.into();
            let prepared = peers.prepare(*who, what);
            if let Ok(answer) = &prepared
                && *who == Who::OnnxRuntime
            {
                graph = answer["how"].as_str().map(String::from);
            }
            if prepared.is_ok() {
                turns.push((*who, peers.turns(*who, runs)));
            }
        }
    }

    let (everyone, turns): (Vec<_>, Vec<_>) = turns.into_iter().unzip();
    let mut medians: Vec<_> = everyone.into_iter().zip(measure(&turns, time)?).collect();
    if !elsewhere {
        medians.push((Who::Burn, medians[1].1));
    }
    Ok(Line {
        shape,
        first,
        peak_memory,
        medians,
        graph,
    })
}

/// Whether a peer ran; says why not.
fn runs(peer: Who, shape: Shape, kind: DeviceKind, outcome: Result<()>) -> bool {
    if let Err(error) = &outcome {
        let peer = peer.name();
        eprintln!("{shape}: {peer}'s attention does not run on {kind}: {error}");
    }
    outcome.is_ok()
}

/// The fastest matrix product of each dtype: Burn's on the device, and where that is the processor, torch's.
fn products(
    shapes: &[Shape],
    kind: DeviceKind,
    peers: Option<&Peers>,
) -> Result<Vec<(DType, f64, &'static str)>> {
    let mut products = Vec::new();
    for dtype in [DType::F32, DType::F16, DType::BF16] {
        if !shapes.iter().any(|shape| shape.dtype == dtype) {
            continue;
        }
        let mut best = (dtype, product_rate(dtype, kind)?, "Burn's");
        let torch = peers.filter(|_| kind.is_software());
        if let Some(Ok(rate)) = torch.map(|peers| peers.product_rate(dtype))
            && rate > best.1
        {
            best = (dtype, rate, "torch's");
        }
        products.push(best);
    }
    Ok(products)
}

fn write(file: &Path, text: &str) -> Result<()> {
    fs::write(file, text).with_context(|| format!("`{}` cannot be written", file.display()))
}
