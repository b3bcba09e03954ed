//! What the default plan costs beside the one that CubeCL's tuner chooses by measurement.

use std::time::Duration;

use anyhow::Result;

use super::{
    measure::{Turn, measure, queue},
    report::{heading, milliseconds},
    shape::{Scale, Shape},
    workload::{Contender, Workload},
};
use crate::{
    cli::{progress, table::Table},
    device::DeviceKind,
    ops::{AttentionOptions, Engine},
};

/// Measures every shape with both plans and prints the table.
///
/// # Errors
/// What the device fails with.
pub fn run(kind: DeviceKind, shapes: &[Shape], time: Duration) -> Result<()> {
    let device = kind.open()?;
    let mut table = Table::new(["shape", "default ms", "tuned ms", "default / tuned"]);
    let bar = progress(shapes.len())?;
    for shape in shapes {
        bar.set_message(shape.to_string());
        let planned = Workload::new(*shape, Contender::Ours, &device);
        let options = AttentionOptions::from(shape.spec()).with_engine(Engine::Tuned);
        let tuned = planned.with_options(options);
        let runs = Scale::of(kind).runs_per_wait();
        let turns = [&planned, &tuned]
            .map(|workload| -> Turn { queue(runs, |runs| workload.run_queued(runs)) });
        let medians = measure(&turns, time)?;
        let ratio = medians[0].as_secs_f64() / medians[1].as_secs_f64();
        table.push([
            shape.to_string(),
            format!("{:.2}", milliseconds(medians[0])),
            format!("{:.2}", milliseconds(medians[1])),
            format!("{ratio:.3}"),
        ]);
        bar.inc(1);
    }
    bar.finish_and_clear();
    println!("{}\n\n{table}", heading(kind)?);
    Ok(())
}
