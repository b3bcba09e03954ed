//! The predictions and their assumptions as a page.

use std::fmt::Write as _;

use attention_core::{
    DType,
    roofline::{DeviceRoofs, ROWS_PER_CUBE, Stated},
};

use super::{Case, Mixes, row};

/// The page.
pub fn page(cases: &[Case], devices: &[DeviceRoofs], mixes: &Mixes) -> String {
    let mut text = format!(
        "# How long it should take\n\n\
         **Predictions. But for a device that says \"measured\", no number here was timed.** Whoever has one of these cards can check them:\n\n\
         ```sh\n\
         attention bench --device cuda          # or rocm, metal, vulkan; the column ms\n\
         attention roofline --device cuda       # what the card itself measures, beside its data sheet\n\
         cargo xtask roofline                   # made this page\n\
         ```\n\n\
         A cell is three things: the milliseconds that the shape takes at the device's peak rates; the milliseconds that are expected; and \
         what the longest of its kernels waits for. A kernel takes as long as the slowest of:\n\n\
         - `matrix`: operations of its products over the rate of matrix instructions;\n\
         - `exp`: one exponential a score over the rate of the units that compute them;\n\
         - `vector`: 4 to 5 further vector instructions a score, with the products and 17 for an exponential where a device has no units \
           for these;\n\
         - `memory`: every tensor moved once over the memory's rate: what is read again comes from a cache;\n\
         - `issue`: instructions of the hot loop, by the vendor's compiler, over those that the device can begin: {}.\n\n\
         Forward is one kernel; backward two more, which multiply seven times together (five would do, with atomics). Causal attention \
         costs the pairs that it sees. Expected is that time with \
         {ROWS_PER_CUBE} rows to a cube, so that cores without a cube idle, over the share of the peak that such kernels reach, and each kernel's launch.\n\n",
        known(mixes)
    );
    for dtype in [DType::F16, DType::F32] {
        let cases: Vec<_> = cases.iter().filter(|case| case.dtype == dtype).collect();
        if cases.is_empty() {
            continue;
        }
        let like = if dtype == DType::F16 {
            " (and bf16)"
        } else {
            ""
        };
        let _ = writeln!(
            text,
            "## {dtype}{like}: peak ms, expected ms, what it waits for\n"
        );
        let mut headings = vec!["shape".to_string()];
        headings.extend(devices.iter().map(|device| device.name.to_string()));
        line(&mut text, &headings);
        line(&mut text, &vec!["---".to_string(); headings.len()]);
        for case in cases {
            line(&mut text, &row(case, devices, mixes));
        }
        text.push('\n');
    }
    text.push_str("## What is assumed\n");
    for device in devices {
        text.push_str(&assumptions(device));
    }
    text
}

fn known(mixes: &Mixes) -> String {
    match mixes.len() {
        0 => "no listing was at hand, so it is left out".into(),
        loops => format!("from [matrix.json](matrix.json), {loops} loops"),
    }
}

fn assumptions(device: &DeviceRoofs) -> String {
    let mut text = format!("\n**{}**. {}\n\n", device.name, device.remark);
    text.push_str("| | | from |\n|---|---|---|\n");
    let mut number = |name: &str, value: String, stated: Stated| {
        line(
            &mut text,
            &[name.to_string(), value, stated.source.to_string()],
        );
    };
    let tera = |stated: Stated, unit: &str| format!("{:.4} T{unit}", stated.value / 1e12);
    for dtype in [DType::F32, DType::F16, DType::BF16] {
        if let Some(rate) = device.matrix(dtype) {
            let name = format!("matrix instructions, {dtype}");
            number(&name, tera(rate, "FLOP/s"), rate);
        }
    }
    number(
        "vector instructions, f32",
        tera(device.vector, "FLOP/s"),
        device.vector,
    );
    if let Some(rate) = device.exponentials {
        number("exponentials", tera(rate, "/s"), rate);
    }
    let bandwidth = device.bandwidth;
    number("memory", tera(bandwidth, "B/s"), bandwidth);
    if let Some(issue) = device.issue {
        number("instructions begun", tera(issue.slots, "/s"), issue.slots);
    }
    let reached = format!("{:.2}", device.reached.value);
    number("share reached", reached, device.reached);
    let launch = format!("{:.1} us", 1e6 * device.launch.value);
    number("launch", launch, device.launch);
    text
}

fn line(text: &mut String, cells: &[String]) {
    let _ = writeln!(text, "| {} |", cells.join(" | "));
}
