//! Where kernels spill, as a picture.

use std::path::Path;

use anyhow::{Result, anyhow};
use plotters::prelude::*;

use crate::table::{Outcome, Row, by_target};

const CELL: i32 = 18;
const LEFT: i32 = 380;
const TOP: i32 = 130;

/// A line for each kernel that a compiler counted somewhere, a column for each target: white where it
/// keeps to its registers, the redder the more bytes of a unit spill, grey where nobody counted, black
/// where it fails.
///
/// # Errors
/// A file that cannot be written.
pub fn draw(rows: &[Row], file: &Path) -> Result<()> {
    let counted = |row: &&Row| row.counts.spilled.is_some();
    let mut kernels: Vec<(&str, &str)> = Vec::new();
    for row in rows.iter().filter(counted) {
        let kernel = (row.case.as_str(), row.kernel.as_str());
        if !kernels.contains(&kernel) {
            kernels.push(kernel);
        }
    }
    let mut targets = by_target(rows);
    targets.retain(|(_, rows)| rows.iter().any(counted));
    let size = |cells: usize, before: i32| (before + CELL * cells as i32 + 20) as u32;
    let area = SVGBackend::new(file, (size(targets.len(), LEFT), size(kernels.len(), TOP)));
    let area = area.into_drawing_area();
    area.fill(&WHITE)?;
    let font = ("sans-serif", 11).into_font();
    for (column, (target, rows)) in targets.iter().enumerate() {
        let x = LEFT + CELL * column as i32;
        let upright = font.clone().transform(FontTransform::Rotate270);
        area.draw(&Text::new(target.to_string(), (x + 3, TOP - 6), upright))?;
        for (line, kernel) in kernels.iter().enumerate() {
            let row = rows
                .iter()
                .find(|row| (row.case.as_str(), row.kernel.as_str()) == *kernel);
            let y = TOP + CELL * line as i32;
            let cell = Rectangle::new([(x, y), (x + CELL - 1, y + CELL - 1)], color(row).filled());
            area.draw(&cell)?;
        }
    }
    for (line, (case, kernel)) in kernels.iter().enumerate() {
        let y = TOP + CELL * line as i32 + 4;
        area.draw(&Text::new(
            format!("{case}  {kernel}"),
            (6, y),
            font.clone(),
        ))?;
    }
    area.draw(&Text::new(
        "bytes of a unit that spill: white 0, red 4096 and more, grey not counted",
        (6, 8),
        font,
    ))?;
    area.present()
        .map_err(|error| anyhow!("{}: {error}", file.display()))
}

fn color(row: Option<&&Row>) -> RGBColor {
    let Some(row) = row else {
        return RGBColor(225, 225, 225);
    };
    match (&row.outcome, row.counts.spilled) {
        (Outcome::Failed(_), _) => BLACK,
        (_, None) => RGBColor(225, 225, 225),
        (_, Some(0)) => RGBColor(245, 250, 245),
        (_, Some(bytes)) => {
            // By the logarithm: 4 bytes are pale, 4096 are red.
            let depth = ((bytes as f64).log2() / 12.0).clamp(0.15, 1.0);
            let fade = (235.0 * (1.0 - depth)) as u8;
            RGBColor(235, fade, fade)
        }
    }
}
