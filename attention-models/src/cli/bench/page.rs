//! What was measured, as a page with pictures.

use std::{fmt::Write as _, fs, path::Path};

use anyhow::{Context, Result};
use attention_core::DType;

use super::{
    machine::Machine,
    plots,
    report::{Report, Who},
    shape::{Pass, Scale},
    write,
};
use crate::device::DeviceKind;

/// Writes `DEVICE.md`, `DEVICE.json`, a picture of bars for each dtype and one of the roofline.
///
/// # Errors
/// A folder that cannot be written.
pub fn write_into(report: &Report, folder: &Path) -> Result<()> {
    fs::create_dir_all(folder)
        .with_context(|| format!("`{}` cannot be written", folder.display()))?;
    let name = report.kind.name();
    let dtypes = dtypes(report);
    for dtype in &dtypes {
        let file = folder.join(format!("{name}-{dtype}.svg"));
        plots::bars(report, *dtype, &file)?;
    }
    plots::roofline(report, &folder.join(format!("{name}-roofline.svg")))?;
    write(&folder.join(format!("{name}.json")), &report.json()?)?;
    write(&folder.join(format!("{name}.md")), &page(report, &dtypes))
}

fn dtypes(report: &Report) -> Vec<DType> {
    let measured = |dtype: &DType| report.lines.iter().any(|line| line.shape.dtype == *dtype);
    let dtypes = [DType::F32, DType::F16, DType::BF16].into_iter();
    dtypes.filter(measured).collect()
}

fn page(report: &Report, dtypes: &[DType]) -> String {
    let kind = report.kind;
    let mut text = format!(
        "# Speed on `{kind}`\n\n\
         `cargo xtask bench --device {kind}` wrote this page, its pictures and [{kind}.json]({kind}.json).\n\n"
    );
    text.push_str(&ratios(report));
    for dtype in dtypes {
        let _ = writeln!(
            text,
            "![GFLOP/s of ours and the peers in {dtype}]({kind}-{dtype}.svg)\n"
        );
    }
    let _ = writeln!(
        text,
        "![every shape under the machine's roofs]({kind}-roofline.svg)\n"
    );
    text.push_str("## Every shape\n\n");
    let (headings, rows) = report.cells();
    markdown_table(&mut text, &headings, &rows);
    text.push_str(&how(report));
    text.push_str("\n## Where\n\n");
    machine_table(&mut text, &report.machine);
    for (dtype, rate, whose) in &report.products {
        let value = format!("{:.0} GFLOP/s ({whose})", rate / 1e9);
        markdown_row(
            &mut text,
            &[format!("{dtype} matrix product, 1024 x 1024 x 1024"), value],
        );
    }
    let bandwidth = format!("{:.1} GB/s", report.bandwidth / 1e9);
    markdown_row(&mut text, &["memory, read and written", &bandwidth]);
    text
}

/// How many times as fast as each peer ours is: the least, the middle one and the most, by dtype and pass.
fn ratios(report: &Report) -> String {
    let mut text = String::from(
        "Times as fast as each peer, over the shapes: the least, **the median**, the most.\n\n",
    );
    let peers = report.peers();
    let mut headings = vec!["".to_string()];
    headings.extend(peers.iter().map(|peer| format!("x {}", peer.name())));
    markdown_row(&mut text, &headings);
    markdown_row(&mut text, &vec!["---"; headings.len()]);
    for dtype in dtypes(report) {
        for pass in Pass::ALL {
            let mut cells = vec![format!("{dtype} {pass}")];
            cells.extend(peers.iter().map(|peer| {
                let lines = report.lines_of(dtype, pass);
                spread(lines.filter_map(|line| line.times_as_fast(*peer)).collect())
            }));
            markdown_row(&mut text, &cells);
        }
    }
    text.push('\n');
    text
}

fn spread(mut ratios: Vec<f64>) -> String {
    ratios.sort_by(f64::total_cmp);
    match (ratios.first(), ratios.last()) {
        (Some(least), Some(most)) => {
            format!("{least:.2} **{:.2}** {most:.2}", ratios[ratios.len() / 2])
        }
        _ => "-".into(),
    }
}

/// What the numbers mean.
fn how(report: &Report) -> String {
    let scale = Scale::of(report.kind);
    let (side, runs) = (scale.product_side(), scale.runs_per_wait());
    let mut text = format!(
        "\n\"x\" is how many times as fast as that peer ours is. Medians; everyone took turns of the same length in one \
         run, back to back runs within a turn, with the same number of threads and whoever waited asleep. GFLOP/s count \
         the products that attention cannot do without (7 of them forward and backward), and only the pairs that causal \
         attention sees. \"of matmul\" is that rate over the fastest {side} x {side} x {side} product measured in the same run. \
         \"first launch\" is the time to the first result of the shape: what was not compiled for a shape before it in the \
         same run is compiled then. "
    );
    if runs > 1 {
        let _ = write!(
            text,
            "Everyone gives the device {runs} runs for each wait, and a time is a run's share of that."
        );
    }
    text.push_str("\n\n");
    if report.peers().contains(&Who::Torch) {
        text.push_str(
            "- torch: `scaled_dot_product_attention`, backward by autograd of the sum of its output, as ours.\n",
        );
    }
    let mut graphs: Vec<_> = report
        .lines
        .iter()
        .filter_map(|line| line.graph.as_deref())
        .collect();
    graphs.sort_unstable();
    let mut counted = graphs.clone();
    counted.dedup();
    for graph in counted {
        let times = graphs.iter().filter(|name| **name == graph).count();
        let _ = writeln!(
            text,
            "- onnxruntime: `{graph}` was its fastest graph for {times} of the shapes."
        );
    }
    let burn = match report.kind {
        DeviceKind::Cpu => "- Burn: its own attention on this device, which is flex's.\n",
        DeviceKind::CubeclCpu => {
            "- Burn: its own attention as it ships, on this device, forward (its backward did not end in four minutes); flex: \
             the same on flex's tensors.\n"
        }
        _ => {
            "- Burn: its own attention as it ships, on this device; flex: the same on the processor; cubek: its unit kernel, \
             launched directly.\n"
        }
    };
    text.push_str(burn);
    text
}

/// Where and with what something was measured.
pub fn machine_table(text: &mut String, machine: &Machine) {
    let rows = machine.rows().into_iter();
    let rows: Vec<_> = rows
        .map(|(name, value)| [name.to_string(), value])
        .collect();
    markdown_table(text, &["", ""], &rows);
}

/// Rows of cells below headings.
pub fn markdown_table(
    text: &mut String,
    headings: &[impl AsRef<str>],
    rows: &[impl AsRef<[String]>],
) {
    markdown_row(text, headings);
    markdown_row(text, &vec!["---"; headings.len()]);
    for row in rows {
        markdown_row(text, row.as_ref());
    }
}

fn markdown_row(text: &mut String, cells: &[impl AsRef<str>]) {
    for cell in cells {
        let _ = write!(text, "| {} ", cell.as_ref());
    }
    text.push_str("|\n");
}
