//! `attention bench --models`: whole models beside the same ones of other libraries, in one run.

mod burn_llama;
mod page;
mod subject;

use std::{collections::HashMap, path::Path, time::Duration};

use anyhow::{Context, Result, ensure};
use burn::tensor::{DType, Device, TensorData};
use safetensors::{Dtype, tensor::TensorView};
use serde_json::json;

use super::{
    machine::Machine,
    measure::{Turn, measure, repeat},
    peers::{Peers, device_for},
    report::{Who, milliseconds},
};
use crate::{cli::progress, device::DeviceKind};
use subject::{MODELS, Subject};

/// The largest difference from ours that a peer's output may have, as a share of the largest value.
const TOLERANCE: f64 = 1e-3;

/// What was measured of one subject.
pub struct Line {
    pub name: &'static str,
    /// Ours first; who does not run is not there.
    pub medians: Vec<(Who, Duration)>,
    /// By how much the outputs of the others differ from ours, as a share of the largest value.
    pub errors: Vec<(Who, f64)>,
    /// Who does not run, and why.
    pub refusals: Vec<(Who, String)>,
}

impl Line {
    pub fn time(&self, who: Who) -> Option<Duration> {
        let median = self.medians.iter().find(|(there, _)| *there == who);
        median.map(|(_, time)| *time)
    }

    /// How many times as fast as this peer ours is.
    pub fn times_as_fast(&self, peer: Who) -> Option<f64> {
        Some(self.time(peer)?.as_secs_f64() / self.time(Who::Ours)?.as_secs_f64())
    }
}

/// All that was measured.
pub struct ModelReport {
    pub kind: DeviceKind,
    pub machine: Machine,
    pub lines: Vec<Line>,
}

/// What to measure, and where it goes.
pub struct Request<'a> {
    pub kind: DeviceKind,
    pub peers: Option<&'a Peers>,
    pub notes: Vec<String>,
    pub filter: Option<&'a str>,
    pub quick: bool,
    pub json: Option<&'a Path>,
    pub report: Option<&'a Path>,
}

/// Measures, prints the table and writes what was asked for.
///
/// # Errors
/// A model that was not fetched, a filter that leaves nothing, what ours fails with, a file that cannot
/// be written.
pub fn run(request: Request) -> Result<()> {
    let lines = lines(&request)?;
    let report = ModelReport {
        kind: request.kind,
        machine: Machine::here(request.kind, request.notes)?,
        lines,
    };
    report.print()?;
    if let Some(file) = request.json {
        super::write(file, &report.json()?)?;
    }
    if let Some(folder) = request.report {
        page::write_into(&report, folder)?;
    }
    Ok(())
}

fn lines(request: &Request) -> Result<Vec<Line>> {
    let device = request.kind.open()?;
    let scratch = tempfile::tempdir().context("there is no room for temporary files")?;
    let wanted = |name: &str| request.filter.is_none_or(|part| name.contains(part));
    let count = MODELS.iter().flat_map(|model| model.subjects);
    let count = count.filter(|name| wanted(name)).count();
    ensure!(
        count > 0,
        "no model has `{}` in its name",
        request.filter.unwrap_or_default()
    );
    let bar = progress(count)?;
    let mut lines = Vec::new();
    for model in &MODELS {
        if !model.subjects.iter().any(|name| wanted(name)) {
            continue;
        }
        bar.set_message(model.subjects[0]);
        for subject in (model.make)(&device, scratch.path())? {
            if !wanted(subject.name) {
                continue;
            }
            bar.set_message(subject.name);
            let line = measure_subject(&subject, request, &device, scratch.path())?;
            bar.suspend(|| eprintln!("{}", line.summary()));
            bar.inc(1);
            lines.push(line);
        }
    }
    bar.finish_and_clear();
    Ok(lines)
}

fn measure_subject(
    subject: &Subject,
    request: &Request,
    device: &Device,
    scratch: &Path,
) -> Result<Line> {
    let expected = (subject.contenders[0].run)()?;
    let mut line = Line {
        name: subject.name,
        medians: Vec::new(),
        errors: Vec::new(),
        refusals: Vec::new(),
    };
    let mut turns: Vec<(Who, u32, Turn)> = Vec::new();
    for contender in &subject.contenders {
        let output = (contender.run)()?;
        if contender.who != Who::Ours {
            let error = disagreement(&output, &expected);
            let name = contender.who.name();
            ensure!(
                error <= TOLERANCE,
                "{}: the output of {name} differs from ours by {error:.1e} of the largest value",
                subject.name
            );
            line.errors.push((contender.who, error));
        }
        let run = || {
            (contender.run)()?;
            Ok(())
        };
        turns.push((contender.who, contender.parts, repeat(run)));
    }
    if let (Some(peers), Some(place)) = (request.peers, device_for(request.kind)) {
        let tensors = scratch.join("tensors.safetensors");
        write_tensors(subject, &expected, &tensors)?;
        for (who, _) in &peers.versions {
            let what = json!({
                "model": subject.model,
                "device": place,
                "folder": subject.folder,
                "tensors": tensors,
                "inputs": subject.inputs.iter().map(|(name, _)| name).collect::<Vec<_>>(),
                "new_tokens": subject.new_tokens,
                "prefilled": subject.prefilled,
            });
            match peers.prepare(*who, what) {
                Ok(answer) => {
                    let error = answer["error"].as_f64().context("a peer says no error")?;
                    line.errors.push((*who, error));
                    turns.push((*who, subject.peer_parts(), peers.turns(*who, 1)));
                }
                Err(error) => line.refusals.push((*who, error.to_string())),
            }
        }
    }
    let time = Duration::from_secs(if request.quick { 4 } else { 15 });
    let (everyone, turns): (Vec<_>, Vec<_>) = turns
        .into_iter()
        .map(|(who, parts, turn)| ((who, parts), turn))
        .unzip();
    let medians = everyone.into_iter().zip(measure(&turns, time)?);
    line.medians = medians
        .map(|((who, parts), median)| (who, median / parts))
        .collect();
    device
        .sync()
        .map_err(|error| anyhow::anyhow!("{error:?}"))?;
    Ok(line)
}

/// The largest difference as a share of the largest value; of tokens, as many as both have, 1 where
/// one differs.
fn disagreement(output: &TensorData, expected: &TensorData) -> f64 {
    let pairs = output.iter::<f64>().zip(expected.iter::<f64>());
    if expected.dtype() == DType::I64 {
        return if pairs.into_iter().all(|(a, b)| a == b) {
            0.0
        } else {
            1.0
        };
    }
    let largest = expected
        .iter::<f64>()
        .fold(0.0, |most, x| x.abs().max(most));
    // A number that is none is the largest difference.
    let worse = |most: f64, (a, b): (f64, f64)| {
        let difference = (a - b).abs();
        if difference <= most { most } else { difference }
    };
    pairs.fold(0.0, worse) / largest
}

/// For the peers: the inputs by their names, and what ours gave as `expected`.
fn write_tensors(subject: &Subject, expected: &TensorData, file: &Path) -> Result<()> {
    let named = subject.inputs.iter().map(|(name, data)| (*name, data));
    let views = named
        .chain([("expected", expected)])
        .map(|(name, data)| {
            let dtype = match data.dtype() {
                DType::I64 => Dtype::I64,
                _ => Dtype::F32,
            };
            Ok((
                name,
                TensorView::new(dtype, data.shape().to_vec(), data.as_bytes())?,
            ))
        })
        .collect::<Result<Vec<_>>>()?;
    safetensors::serialize_to_file(views, None::<HashMap<String, String>>, file)?;
    Ok(())
}
