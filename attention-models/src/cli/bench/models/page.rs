//! What was measured, as a table, as data and as a page with a picture.

use std::{fmt::Write as _, fs, path::Path};

use anyhow::{Context, Result};
use serde_json::{Map, Value, json};

use super::{Line, ModelReport, TOLERANCE, Who, milliseconds};
use crate::cli::bench::{
    page::{machine_table, markdown_table},
    plots::{self, Group, Panel},
    report::print_table,
    write,
};

/// Whom ours is compared with, as columns.
const PEERS: [Who; 5] = [
    Who::Torch,
    Who::OnnxRuntime,
    Who::Burn,
    Who::BurnModules,
    Who::NoCache,
];

impl Line {
    /// Who runs beside ours, in the order of the columns.
    fn peers(&self) -> impl Iterator<Item = (Who, f64)> {
        let ratio = |who| Some((who, self.times_as_fast(who)?));
        PEERS.into_iter().filter_map(ratio)
    }

    /// For a terminal, as soon as it is known.
    pub fn summary(&self) -> String {
        let time = self.time(Who::Ours).unwrap_or_default();
        let mut text = format!("{}: {:.1} ms", self.name, milliseconds(time));
        for (peer, ratio) in self.peers() {
            let _ = write!(text, ", {ratio:.2} x {}", peer.name());
        }
        for (peer, reason) in &self.refusals {
            let _ = write!(text, "\n  {} takes no part: {reason}", peer.name());
        }
        text
    }

    fn json(&self) -> Value {
        let named = |pairs: &[(Who, f64)]| {
            let pairs = pairs.iter().map(|(who, x)| (who.name().into(), json!(x)));
            Value::Object(pairs.collect::<Map<_, _>>())
        };
        let seconds = self.medians.iter();
        let seconds: Vec<_> = seconds
            .map(|(who, time)| (*who, time.as_secs_f64()))
            .collect();
        let refusals = self.refusals.iter();
        let refusals = refusals.map(|(who, reason)| (who.name().into(), json!(reason)));
        json!({
            "name": self.name,
            "seconds": named(&seconds),
            "differences": named(&self.errors),
            "refusals": refusals.collect::<Map<_, _>>(),
        })
    }
}

impl ModelReport {
    /// Those that ran at least once.
    fn columns(&self) -> Vec<Who> {
        let ran = |who: &Who| self.lines.iter().any(|line| line.time(*who).is_some());
        PEERS.into_iter().filter(ran).collect()
    }

    /// Headings, and the cells of every line: ratios, then milliseconds.
    fn cells(&self) -> (Vec<String>, Vec<Vec<String>>) {
        let columns = self.columns();
        let mut headings = vec!["".to_string()];
        headings.extend(columns.iter().map(|peer| format!("x {}", peer.name())));
        let times = [Who::Ours].into_iter().chain(columns.iter().copied());
        let times: Vec<_> = times.collect();
        headings.extend(times.iter().map(|who| format!("{} ms", who.name())));
        let row = |line: &Line| {
            let shown = |number: Option<f64>, digits: usize| {
                number.map_or("-".into(), |number| format!("{number:.digits$}"))
            };
            let mut cells = vec![line.name.to_string()];
            let ratios = columns.iter().map(|peer| line.times_as_fast(*peer));
            cells.extend(ratios.map(|ratio| shown(ratio, 2)));
            let times = times.iter().map(|who| line.time(*who).map(milliseconds));
            cells.extend(times.map(|time| shown(time, 1)));
            cells
        };
        (headings, self.lines.iter().map(row).collect())
    }

    /// Prints the table.
    pub fn print(&self) -> Result<()> {
        print_table(self.kind, self.cells())
    }

    /// The same as data.
    pub fn json(&self) -> Result<String> {
        let lines: Vec<_> = self
            .lines
            .iter()
            .map(|line| line.json().to_string())
            .collect();
        Ok(format!(
            "{{\"device\": {},\n\"machine\": {},\n\"models\": [\n{}\n]}}\n",
            json!(self.kind.name()),
            serde_json::to_string(&self.machine)?,
            lines.join(",\n"),
        ))
    }
}

/// Writes `models.md`, `models.json` and `models.svg`.
///
/// # Errors
/// A folder that cannot be written.
pub fn write_into(report: &ModelReport, folder: &Path) -> Result<()> {
    fs::create_dir_all(folder)
        .with_context(|| format!("`{}` cannot be written", folder.display()))?;
    picture(report, &folder.join("models.svg"))?;
    write(&folder.join("models.json"), &report.json()?)?;
    write(&folder.join("models.md"), &page(report))
}

fn page(report: &ModelReport) -> String {
    let kind = report.kind;
    let mut text = format!(
        "# Whole models on `{kind}`\n\n\
         `cargo xtask bench --models --device {kind}` wrote this page, its picture and [models.json](models.json).\n\n\
         ![speed of everyone, that of ours is 1](models.svg)\n\n"
    );
    let (headings, rows) = report.cells();
    markdown_table(&mut text, &headings, &rows);
    let _ = write!(
        text,
        "\n\"x\" is how many times as fast as that peer ours is. Medians in f32; everyone took turns of the same length in one \
         run, with the same number of threads and whoever waited asleep. Weights and inputs are the same, and outputs \
         too, to {TOLERANCE:e} of the largest value, or the peer would not be measured; generated tokens are equal.\n\n\
         - ours: the models of this project.\n\
         - torch: transformers' models with `sdpa`; for terrain, guided-diffusion's UNet with \
         `scaled_dot_product_attention`. transformers reads what our models' `save` wrote, with no key missing or left \
         over.\n\
         - onnxruntime: the same torch models, exported by torch.\n\
         - Burn: ours with Burn's own attention in its place.\n\
         - Burn's modules: a Llama made of Burn's `Linear`, `RmsNorm`, `RotaryEncoding`, `SwiGlu`, `Embedding` and \
         attention, whose keys and values are concatenated at each step, as Burn's caches do it.\n\
         - no cache: ours, which reads all tokens again for the next one.\n\n\
         A prefill gives the logits of the next token and the filled cache (onnxruntime: the logits). \"a token after\" is \
         the mean of {} tokens after a prompt that is in the cache.\n",
        super::subject::STEPS
    );
    differences(&mut text, report);
    text.push_str("\n## Where\n\n");
    machine_table(&mut text, &report.machine);
    text
}

/// By how much outputs differ, and who took no part.
fn differences(text: &mut String, report: &ModelReport) {
    text.push_str("\n## How much outputs differ from ours\n\n");
    let columns = report.columns();
    let mut headings = vec!["".to_string()];
    headings.extend(columns.iter().map(|who| who.name().to_string()));
    let row = |line: &Line| {
        let mut cells = vec![line.name.to_string()];
        cells.extend(columns.iter().map(|who| {
            let error = line.errors.iter().find(|(there, _)| there == who);
            error.map_or("-".into(), |(_, error)| match *error {
                0.0 => "nothing".into(),
                error => format!("{error:.1e}"),
            })
        }));
        cells
    };
    let rows: Vec<_> = report.lines.iter().map(row).collect();
    markdown_table(text, &headings, &rows);
    let refusals = report.lines.iter().flat_map(|line| {
        let refusals = line.refusals.iter();
        refusals.map(|(who, reason)| format!("- {}, {}: {reason}\n", line.name, who.name()))
    });
    let refusals: String = refusals.collect();
    if !refusals.is_empty() {
        let _ = write!(text, "\nWho took no part:\n\n{refusals}");
    }
}

/// The speed of everyone, that of ours is 1.
fn picture(report: &ModelReport, file: &Path) -> Result<()> {
    let everyone: Vec<_> = [Who::Ours].into_iter().chain(report.columns()).collect();
    let group = |line: &Line| {
        let speed = |who: &Who| Some((*who, 1.0 / line.times_as_fast(*who)?));
        Group {
            labels: line.name.splitn(2, ' ').map(String::from).collect(),
            bars: everyone.iter().filter_map(speed).collect(),
        }
    };
    let panel = Panel {
        title: format!("{}: times as fast as ours", report.kind),
        groups: report.lines.iter().map(group).collect(),
        line: 1.0,
    };
    plots::panels(&[panel], &everyone, "line: ours", file)
}
