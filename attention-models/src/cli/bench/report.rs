//! The numbers as a table and as JSON.

use std::{fmt, time::Duration};

use anyhow::Result;
use attention_core::DType;
use serde_json::{Map, Value, json};

use super::{
    machine::Machine,
    shape::{Pass, Shape},
};
use crate::{cli::table::Table, device::DeviceKind};

/// Whose attention was measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Who {
    /// This project's.
    Ours,
    /// Burn's own, as it ships, on the same device.
    Burn,
    /// Burn's on flex.
    Flex,
    /// cubek's unit kernel on the same device.
    Cubek,
    /// torch's, in a Python.
    Torch,
    /// onnxruntime's, in a Python.
    OnnxRuntime,
    /// A model made of Burn's modules.
    BurnModules,
    /// Ours, without its cache.
    NoCache,
}

impl Who {
    /// Those that have an attention of their own.
    pub const PEERS: [Self; 5] = [
        Self::Torch,
        Self::OnnxRuntime,
        Self::Burn,
        Self::Flex,
        Self::Cubek,
    ];

    /// In headings and legends, and for the script of the peers.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ours => "ours",
            Self::Burn => "Burn",
            Self::Flex => "flex",
            Self::Cubek => "cubek",
            Self::Torch => "torch",
            Self::OnnxRuntime => "onnxruntime",
            Self::BurnModules => "Burn's modules",
            Self::NoCache => "no cache",
        }
    }

    fn key(self) -> String {
        match self {
            Self::Cubek => "cubek_unit_seconds".into(),
            other => format!("{}_seconds", other.name().to_lowercase()),
        }
    }
}

/// What was measured of one shape.
pub struct Line {
    /// The shape.
    pub shape: Shape,
    /// The time to the first result.
    pub first: Duration,
    /// Bytes that the device held after it.
    pub peak_memory: u64,
    /// Ours first; who does not run is not there.
    pub medians: Vec<(Who, Duration)>,
    /// Which of its graphs was onnxruntime's fastest.
    pub graph: Option<String>,
}

impl Line {
    /// The median, where this one runs.
    pub fn time(&self, who: Who) -> Option<Duration> {
        let median = self.medians.iter().find(|(there, _)| *there == who);
        median.map(|(_, time)| *time)
    }

    /// Floating-point operations a second, of those that attention cannot do without.
    pub fn rate(&self, who: Who) -> Option<f64> {
        let flops = self.shape.cost().flops as f64;
        self.time(who).map(|time| flops / time.as_secs_f64())
    }

    /// Bytes a second, of those that have to be read and written.
    pub fn byte_rate(&self, who: Who) -> Option<f64> {
        let bytes = self.shape.cost().bytes as f64;
        self.time(who).map(|time| bytes / time.as_secs_f64())
    }

    /// How many times as fast as this peer ours is.
    pub fn times_as_fast(&self, peer: Who) -> Option<f64> {
        Some(self.time(peer)?.as_secs_f64() / self.time(Who::Ours)?.as_secs_f64())
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time = self.time(Who::Ours).unwrap_or_default();
        write!(f, "{}: {:.2} ms", self.shape, milliseconds(time))?;
        for peer in Who::PEERS {
            if let Some(ratio) = self.times_as_fast(peer) {
                write!(f, ", {ratio:.2} x {}", peer.name())?;
            }
        }
        Ok(())
    }
}

/// All that was measured on one device.
pub struct Report {
    /// The device.
    pub kind: DeviceKind,
    /// Where it was measured, and with what.
    pub machine: Machine,
    /// A line for each shape.
    pub lines: Vec<Line>,
    /// Floating-point operations a second of the fastest matrix product at hand, and whose it is.
    pub products: Vec<(DType, f64, &'static str)>,
    /// Bytes a second.
    pub bandwidth: f64,
}

impl Report {
    /// The peers that ran at least once. On `cpu` Burn's attention is flex's and named once.
    pub fn peers(&self) -> Vec<Who> {
        let ran = |who: &Who| self.lines.iter().any(|line| line.time(*who).is_some());
        let twice = |who: &Who| *who == Who::Flex && self.kind == DeviceKind::Cpu;
        let peers = Who::PEERS.into_iter();
        peers.filter(|who| ran(who) && !twice(who)).collect()
    }

    /// The lines of a dtype and a pass.
    pub fn lines_of(&self, dtype: DType, pass: Pass) -> impl Iterator<Item = &Line> {
        let of = move |line: &&Line| (line.shape.dtype, line.shape.pass()) == (dtype, pass);
        self.lines.iter().filter(of)
    }

    /// Operations a second of the matrix product, 0 where it was not measured.
    pub fn product(&self, dtype: DType) -> f64 {
        let product = self.products.iter().find(|(there, ..)| *there == dtype);
        product.map_or(0.0, |(_, rate, _)| *rate)
    }

    /// Headings, and the cells of every line.
    pub fn cells(&self) -> (Vec<String>, Vec<Vec<String>>) {
        let peers = self.peers();
        let mut headings = vec!["shape".to_string()];
        headings.extend(peers.iter().map(|peer| format!("x {}", peer.name())));
        headings.extend(
            ["ms", "GFLOP/s", "of matmul", "memory MiB", "first launch s"].map(String::from),
        );
        let row = |line: &Line| {
            let rate = line.rate(Who::Ours).unwrap_or_default();
            let ratio = |peer: &Who| {
                let ratio = line.times_as_fast(*peer);
                ratio.map_or("-".into(), |ratio| format!("{ratio:.2}"))
            };
            let mut cells = vec![line.shape.to_string()];
            cells.extend(peers.iter().map(ratio));
            let time = line.time(Who::Ours).unwrap_or_default();
            cells.extend([
                format!("{:.2}", milliseconds(time)),
                format!("{:.1}", rate / 1e9),
                format!("{:.0}%", 100.0 * rate / self.product(line.shape.dtype)),
                format!("{:.1}", line.peak_memory as f64 / f64::from(1 << 20)),
                format!("{:.2}", line.first.as_secs_f64()),
            ]);
            cells
        };
        (headings, self.lines.iter().map(row).collect())
    }

    /// Prints the table.
    pub fn print(&self) -> Result<()> {
        print_table(self.kind, self.cells())
    }

    /// The same as data, a line for each shape.
    pub fn json(&self) -> Result<String> {
        let lines: Vec<_> = self
            .lines
            .iter()
            .map(|line| json_line(line).to_string())
            .collect();
        let product = |(dtype, rate, whose): &(DType, f64, &str)| json!({ "dtype": dtype, "flops_per_second": rate, "whose": whose });
        let products: Vec<_> = self.products.iter().map(product).collect();
        Ok(format!(
            "{{\"device\": {}, \"name\": {},\n\"machine\": {},\n\"matmul\": {},\n\
             \"bytes_per_second\": {:.4e},\n\"shapes\": [\n{}\n]}}\n",
            json!(self.kind.name()),
            json!(self.kind.facts()?.name),
            serde_json::to_string(&self.machine)?,
            json!(products),
            self.bandwidth,
            lines.join(",\n"),
        ))
    }
}

fn json_line(line: &Line) -> Value {
    let shape = line.shape;
    let mut object = Map::new();
    object.insert("batch".into(), json!(shape.batch));
    object.insert("heads".into(), json!(shape.heads));
    object.insert("kv_heads".into(), json!(shape.kv_heads));
    object.insert("head_dim".into(), json!(shape.head_dim));
    object.insert("queries".into(), json!(shape.queries));
    object.insert("seq".into(), json!(shape.seq));
    object.insert("dtype".into(), json!(shape.dtype));
    object.insert("causal".into(), json!(shape.causal));
    object.insert("backward".into(), json!(shape.backward));
    for who in [Who::Ours].into_iter().chain(Who::PEERS) {
        let seconds = line.time(who).map(|time| time.as_secs_f64());
        object.insert(who.key(), json!(seconds));
    }
    object.insert("memory_bytes".into(), json!(line.peak_memory));
    let first = line.first.as_secs_f64();
    object.insert("first_run_seconds".into(), json!(first));
    Value::Object(object)
}

pub fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// Prints headings and cells of ratios under the device's name.
pub fn print_table(
    kind: DeviceKind,
    (headings, rows): (Vec<String>, Vec<Vec<String>>),
) -> Result<()> {
    let mut table = Table::new(headings);
    for row in rows {
        table.push(row);
    }
    println!("{}\n\n{table}", heading(kind)?);
    println!("x: how many times as fast as that peer (medians, taking turns)");
    Ok(())
}

pub fn heading(kind: DeviceKind) -> Result<String> {
    let cores = std::thread::available_parallelism()?;
    Ok(format!("{kind}: {}, {cores} threads", kind.facts()?.name))
}
