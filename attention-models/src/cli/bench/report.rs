//! The numbers as a table and as JSON.

use std::{fmt, time::Duration};

use anyhow::Result;
use serde_json::{Value, json};

use super::{measure::Timings, workload::Shape};
use crate::{cli::table::Table, device::DeviceKind};

/// What was measured of one shape.
pub struct Line {
    /// The shape.
    pub shape: Shape,
    /// The time to the first result.
    pub first: Duration,
    /// Bytes that the device held after it.
    pub peak_memory: u64,
    /// Medians.
    pub timings: Timings,
    /// Floating-point operations a second of the device's matrix product.
    pub product_rate: f64,
}

impl Line {
    fn rate(&self) -> f64 {
        self.shape.cost().flops as f64 / self.timings.ours.as_secs_f64()
    }

    /// For the table: `-` for a peer that does not run.
    fn ratio(&self, peer: Option<Duration>) -> String {
        peer.map_or("-".into(), |peer| format!("{:.2}", self.faster_than(peer)))
    }

    fn faster_than(&self, peer: Duration) -> f64 {
        peer.as_secs_f64() / self.timings.ours.as_secs_f64()
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (shape, time) = (self.shape, milliseconds(self.timings.ours));
        let ratio = self.ratio(self.timings.burn);
        write!(f, "{shape}: {time:.2} ms, {ratio} x Burn's")
    }
}

pub fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// Prints the table.
pub fn print(kind: DeviceKind, lines: &[Line]) -> Result<()> {
    let mut table = Table::new([
        "B1 H8 D64",
        "ours ms",
        "x Burn's",
        "x flex",
        "x cubek's",
        "GFLOP/s",
        "of matmul",
        "memory MiB",
        "first run s",
    ]);
    for line in lines {
        table.push([
            line.shape.to_string(),
            format!("{:.2}", milliseconds(line.timings.ours)),
            line.ratio(line.timings.burn),
            line.ratio(Some(line.timings.flex)),
            line.ratio(line.timings.cubek),
            format!("{:.1}", line.rate() / 1e9),
            format!("{:.0}%", 100.0 * line.rate() / line.product_rate),
            format!("{:.1}", line.peak_memory as f64 / f64::from(1 << 20)),
            format!("{:.2}", line.first.as_secs_f64()),
        ]);
    }
    println!("{}\n\n{table}", heading(kind)?);
    println!(
        "x: how many times as fast as Burn's attention on this device and on flex, and as cubek's unit kernel (medians, taking turns)"
    );
    Ok(())
}

/// The same as data.
pub fn json(kind: DeviceKind, lines: &[Line]) -> Result<Value> {
    let line = |line: &Line| {
        json!({
            "seq": line.shape.seq,
            "dtype": line.shape.dtype,
            "causal": line.shape.causal,
            "backward": line.shape.backward,
            "ours_seconds": line.timings.ours.as_secs_f64(),
            "burn_seconds": line.timings.burn.map(|time| time.as_secs_f64()),
            "flex_seconds": line.timings.flex.as_secs_f64(),
            "cubek_unit_seconds": line.timings.cubek.map(|time| time.as_secs_f64()),
            "times_burn": line.timings.burn.map(|time| line.faster_than(time)),
            "times_flex": line.faster_than(line.timings.flex),
            "flops_per_second": line.rate(),
            "matmul_flops_per_second": line.product_rate,
            "memory_bytes": line.peak_memory,
            "first_run_seconds": line.first.as_secs_f64(),
        })
    };
    Ok(json!({
        "device": kind.name(),
        "name": kind.facts()?.name,
        "batch": 1,
        "heads": 8,
        "head_dim": 64,
        "shapes": lines.iter().map(line).collect::<Vec<_>>(),
    }))
}

pub fn heading(kind: DeviceKind) -> Result<String> {
    let cores = std::thread::available_parallelism()?;
    Ok(format!("{kind}: {}, {cores} threads", kind.facts()?.name))
}
