//! `attention devices`: what is compiled in, what is found, and what each device offers.

use std::process::ExitCode;

use anyhow::Result;

use super::table::Table;
use crate::device::{self, DeviceKind};

/// Prints the table.
pub fn run() -> Result<ExitCode> {
    let mut found = Table::new([
        "device",
        "name",
        "runtime",
        "plane",
        "f32 a load",
        "matrix units",
        "shared memory",
        "dtypes",
        "buffers",
        "units a cube",
    ]);
    let mut absent = Table::new(["device", "why it is not there"]);
    for kind in DeviceKind::ALL {
        match kind.facts() {
            Ok(facts) => found.push([
                kind.to_string(),
                facts.name,
                facts.runtime.to_string(),
                range(facts.plane_size.into_inner()),
                facts.vector_width.to_string(),
                matrix_units(&facts.matrix_units),
                format!("{} KiB", facts.shared_memory / 1024),
                listed(&facts.dtypes),
                facts.max_bindings.to_string(),
                facts.units_per_cube.to_string(),
            ]),
            Err(error) => absent.push([kind.to_string(), error.reason()]),
        }
    }
    println!(
        "{found}\n{absent}\n`--device auto` takes {}.",
        device::auto()
    );
    Ok(ExitCode::SUCCESS)
}

fn range((low, high): (u32, u32)) -> String {
    if low == high {
        low.to_string()
    } else {
        format!("{low}-{high}")
    }
}

fn matrix_units(units: &[String]) -> String {
    match units {
        [] => "none".into(),
        units => units.join(", "),
    }
}

fn listed(items: &[impl ToString]) -> String {
    let items: Vec<_> = items.iter().map(ToString::to_string).collect();
    items.join(", ")
}
