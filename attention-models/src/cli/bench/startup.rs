//! How long the first run of each shape takes, most of which is compilation.

use std::time::Instant;

use anyhow::Result;

use super::{
    report::heading,
    shape::Shape,
    workload::{Contender, Workload},
};
use crate::{cli::table::Table, device::DeviceKind};

/// Runs each shape once and prints how long it took.
///
/// # Errors
/// What the device fails with.
pub fn run(kind: DeviceKind, shapes: &[Shape]) -> Result<()> {
    let device = kind.open()?;
    let mut table = Table::new(["shape", "first run s"]);
    for shape in shapes {
        let workload = Workload::new(*shape, Contender::Ours, &device);
        workload.warm_up_loss()?;
        let clock = Instant::now();
        workload.run()?;
        let seconds = clock.elapsed().as_secs_f64();
        table.push([shape.to_string(), format!("{seconds:.3}")]);
    }
    println!("{}\n\n{table}", heading(kind)?);
    Ok(())
}
