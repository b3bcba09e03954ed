//! Bars of ours and the peers, and the roofline, as pictures.

use std::path::Path;

use anyhow::{Result, anyhow};
use attention_core::DType;
use plotters::{coord::Shift, prelude::*};

use super::{
    report::{Line, Report, Who},
    shape::{Pass, Shape},
};

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

const WIDTH: u32 = 1100;
const PANEL: u32 = 300;
const FONT: (&str, i32) = ("sans-serif", 13);
const TITLE: (&str, i32) = ("sans-serif", 16);

fn color(who: Who) -> RGBColor {
    match who {
        Who::Ours => RGBColor(200, 60, 40),
        Who::Torch => RGBColor(60, 100, 160),
        Who::OnnxRuntime => RGBColor(110, 160, 200),
        Who::Burn => RGBColor(120, 120, 120),
        Who::Flex => RGBColor(180, 180, 180),
        Who::Cubek => RGBColor(190, 160, 90),
        Who::BurnModules => RGBColor(90, 90, 90),
        Who::NoCache => RGBColor(230, 170, 160),
    }
}

/// Bars beside each other, with one or two rows of text below.
pub struct Group {
    pub labels: Vec<String>,
    pub bars: Vec<(Who, f64)>,
}

/// Groups under a title, and a line at some height.
pub struct Panel {
    pub title: String,
    pub groups: Vec<Group>,
    pub line: f64,
}

/// Operations a second of everyone, a group of bars for each shape, forward above forward+backward; below, bytes a
/// second of decoding.
///
/// # Errors
/// A file that cannot be written.
pub fn bars(report: &Report, dtype: DType, file: &Path) -> Result<()> {
    let everyone: Vec<_> = [Who::Ours].into_iter().chain(report.peers()).collect();
    let panel = |pass| {
        let rate = match pass {
            Pass::Decoding => Line::byte_rate,
            Pass::Forward | Pass::Backward => Line::rate,
        };
        let (unit, roof) = match pass {
            Pass::Decoding => ("GB/s", report.bandwidth),
            Pass::Forward | Pass::Backward => ("GFLOP/s", report.product(dtype)),
        };
        let group = |line: &Line| Group {
            labels: labels(&line.shape),
            bars: everyone
                .iter()
                .filter_map(|who| Some((*who, rate(line, *who)? / 1e9)))
                .collect(),
        };
        Panel {
            title: format!("{} {dtype}, {pass}: {unit}, more is faster", report.kind),
            groups: report.lines_of(dtype, pass).map(group).collect(),
            line: roof / 1e9,
        }
    };
    let measured = Pass::ALL.map(panel);
    let measured: Vec<_> = measured
        .into_iter()
        .filter(|panel| !panel.groups.is_empty())
        .collect();
    let explained = "line: the fastest matrix product measured, or memory";
    panels(&measured, &everyone, explained, file)
}

fn labels(shape: &Shape) -> Vec<String> {
    let causal = if shape.causal { " causal" } else { "" };
    let heads = if shape.pass() == Pass::Decoding {
        format!(" H{}/{}", shape.heads, shape.kv_heads)
    } else {
        String::new()
    };
    vec![
        format!("N{}{heads}", shape.seq),
        format!("D{}{causal}", shape.head_dim),
    ]
}

/// Panels above each other, then who is who and what the line is.
///
/// # Errors
/// A file that cannot be written.
pub fn panels(panels: &[Panel], everyone: &[Who], explained: &str, file: &Path) -> Result<()> {
    let height = PANEL * panels.len() as u32;
    let area = SVGBackend::new(file, (WIDTH, height + 30)).into_drawing_area();
    area.fill(&WHITE)?;
    let (above, legend) = area.split_vertically(height);
    for (area, panel) in above.split_evenly((panels.len(), 1)).iter().zip(panels) {
        draw_panel(area, panel, everyone)?;
    }
    draw_legend(&legend, everyone, explained)?;
    area.present()
        .map_err(|error| anyhow!("{}: {error}", file.display()))
}

fn draw_panel(area: &Area, panel: &Panel, everyone: &[Who]) -> Result<()> {
    let heights = panel.groups.iter().flat_map(|group| &group.bars);
    let top = heights.fold(panel.line, |top, (_, height)| top.max(*height)) * 1.1;
    let groups = panel.groups.len().max(1) as f64;
    let mut chart = ChartBuilder::on(area)
        .caption(&panel.title, TITLE)
        .x_label_area_size(36)
        .y_label_area_size(50)
        .margin(6)
        .build_cartesian_2d(0.0..groups, 0.0..top)?;
    chart
        .configure_mesh()
        .disable_x_mesh()
        .disable_x_axis()
        .y_labels(6)
        .light_line_style(WHITE)
        .label_style(FONT)
        .draw()?;
    let width = 0.84 / everyone.len() as f64;
    for (place, group) in panel.groups.iter().enumerate() {
        for (column, who) in everyone.iter().enumerate() {
            let Some((_, height)) = group.bars.iter().find(|(there, _)| there == who) else {
                continue;
            };
            let left = place as f64 + 0.08 + column as f64 * width;
            let corners = [(left, 0.0), (left + 0.92 * width, *height)];
            let bar = Rectangle::new(corners, color(*who).filled());
            chart.plotting_area().draw(&bar)?;
        }
        for (row, text) in group.labels.iter().enumerate() {
            let (x, y) = chart.backend_coord(&(place as f64 + 0.08, 0.0));
            let (left, above) = area.get_base_pixel();
            let place = (x - left, y - above + 4 + 14 * row as i32);
            area.draw(&Text::new(text.as_str(), place, FONT))?;
        }
    }
    let line = [(0.0, panel.line), (groups, panel.line)];
    chart
        .plotting_area()
        .draw(&PathElement::new(line, BLACK.stroke_width(1)))?;
    Ok(())
}

fn draw_legend(area: &Area, everyone: &[Who], explained: &str) -> Result<()> {
    let mut x = 60;
    for who in everyone {
        let swatch = Rectangle::new([(x, 8), (x + 14, 20)], color(*who).filled());
        area.draw(&swatch)?;
        area.draw(&Text::new(who.name(), (x + 20, 8), FONT))?;
        x += 130;
    }
    area.draw(&Text::new(explained, (x, 8), FONT))?;
    Ok(())
}

/// Operations a second over operations a byte: every shape of ours under the roof of the measured matrix product and
/// the measured bandwidth.
///
/// # Errors
/// A file that cannot be written.
pub fn roofline(report: &Report, file: &Path) -> Result<()> {
    let area = SVGBackend::new(file, (WIDTH, 2 * PANEL)).into_drawing_area();
    area.fill(&WHITE)?;
    let roofs = report.products.iter().map(|(_, rate, _)| rate / 1e9);
    let dots = report.lines.iter().filter_map(|line| line.rate(Who::Ours));
    let dots: Vec<_> = dots.map(|rate| rate / 1e9).collect();
    let top = roofs.chain(dots.iter().copied()).fold(1.0, f64::max) * 2.0;
    let (intensities, slope) = (0.25..8192.0f64, report.bandwidth / 1e9);
    let lowest = slope * intensities.start;
    let bottom = dots.iter().copied().fold(lowest, f64::min) / 2.0;
    let title = format!(
        "{}: GFLOP/s of ours over operations a byte, under measured roofs",
        report.kind
    );
    let mut chart = ChartBuilder::on(&area)
        .caption(title, TITLE)
        .x_label_area_size(40)
        .y_label_area_size(60)
        .margin(10)
        .build_cartesian_2d(intensities.clone().log_scale(), (bottom..top).log_scale())?;
    chart
        .configure_mesh()
        .x_desc("floating-point operations a byte")
        .y_desc("GFLOP/s")
        .light_line_style(WHITE)
        .label_style(FONT)
        .draw()?;
    for (dtype, rate, whose) in &report.products {
        let rate = rate / 1e9;
        let ridge = (rate / slope).clamp(intensities.start, intensities.end);
        let roof = [
            (intensities.start, lowest),
            (ridge, slope * ridge),
            (intensities.end, rate),
        ];
        let style = dtype_color(*dtype).stroke_width(2);
        chart.plotting_area().draw(&PathElement::new(roof, style))?;
        // Left of the ridge there is nothing at this height.
        let label = format!("{dtype} matrix product ({whose}) {rate:.0} GFLOP/s");
        let font = FONT.into_font().color(&dtype_color(*dtype));
        let label = Text::new(label, (0.3, rate * 1.05), font);
        chart.plotting_area().draw(&label)?;
    }
    let label = format!("memory {slope:.0} GB/s");
    let label = Text::new(label, (1.2, 0.7 * slope), FONT);
    chart.plotting_area().draw(&label)?;
    for line in &report.lines {
        let rate = line.rate(Who::Ours).unwrap_or_default() / 1e9;
        let place = (line.shape.cost().intensity(), rate.max(bottom));
        let style = dtype_color(line.shape.dtype);
        let size = if line.shape.head_dim > 64 { 6 } else { 4 };
        let dot = if line.shape.backward {
            Circle::new(place, size, style.stroke_width(2))
        } else {
            Circle::new(place, size, style.filled())
        };
        chart.plotting_area().draw(&dot)?;
    }
    let key = "full: forward, hollow: forward + backward; small: D64, large: D128";
    area.draw(&Text::new(key, (90, 2 * PANEL as i32 - 66), FONT))?;
    area.present()
        .map_err(|error| anyhow!("{}: {error}", file.display()))
}

fn dtype_color(dtype: DType) -> RGBColor {
    match dtype {
        DType::F32 => RGBColor(200, 60, 40),
        DType::F16 => RGBColor(60, 100, 160),
        DType::BF16 => RGBColor(80, 140, 70),
    }
}
