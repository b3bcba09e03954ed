//! What masks, score modifications and block maps as code cost and save.

use std::time::Duration;

use anyhow::Result;
use attention_core::DType;
use burn::tensor::{Device, Tensor};

use super::{
    measure::{Turn, measure, queue},
    report::{heading, milliseconds},
    shape::{Scale, Shape},
    workload::{Contender, Workload},
};
use crate::{
    cli::{progress, table::Table},
    device::DeviceKind,
    ops::{AttentionOptions, BlockMap, BlockShape, MaskMod, variants},
};

const HEADS: usize = 8;

/// Attention with code, beside the same without.
struct Subject {
    name: &'static str,
    seq: usize,
    /// Of the attention beside it.
    causal: bool,
    options: fn(usize, &Device) -> AttentionOptions,
}

const SUBJECTS: [Subject; 5] = [
    Subject {
        name: "ALiBi",
        seq: 1024,
        causal: false,
        options: |_, device| {
            let slopes = variants::alibi_slopes(HEADS);
            let slopes = Tensor::from_data(slopes.as_slice(), device);
            AttentionOptions::default().with_score_mod(variants::alibi(slopes, 0))
        },
    },
    Subject {
        name: "window of 256 as a mask",
        seq: 1024,
        causal: false,
        options: |_, _| AttentionOptions::default().with_mask_mod(window()),
    },
    Subject {
        name: "causal as a block map, beside the built-in",
        seq: 1024,
        causal: true,
        options: causal_map,
    },
    Subject {
        name: "causal as a block map, beside the built-in",
        seq: 4096,
        causal: true,
        options: causal_map,
    },
    Subject {
        name: "window of 256 as a block map",
        seq: 8192,
        causal: false,
        options: |seq, device| mapped(window(), seq, device),
    },
];

fn window() -> MaskMod {
    variants::sliding_window(255, 0, 0)
}

fn causal_map(seq: usize, device: &Device) -> AttentionOptions {
    mapped(variants::causal(0), seq, device)
}

fn mapped(mask: MaskMod, seq: usize, device: &Device) -> AttentionOptions {
    let map = BlockMap::new(mask, BlockShape::new(seq, seq), device);
    AttentionOptions::default().with_block_map(map)
}

/// Measures every subject whose name contains `filter` and prints the table.
///
/// # Errors
/// What the device fails with.
pub fn run(kind: DeviceKind, quick: bool, filter: Option<&str>) -> Result<()> {
    let time = Duration::from_secs(if quick { 1 } else { 5 });
    let mut table = Table::new([
        "B1 H8 D64 f32",
        "with ms",
        "without ms",
        "times as long",
        "by tiles",
        "of that speed",
    ]);
    let bar = progress(2 * SUBJECTS.len())?;
    for subject in &SUBJECTS {
        for backward in [false, true] {
            let shape = Shape {
                batch: 1,
                heads: HEADS,
                kv_heads: HEADS,
                head_dim: 64,
                queries: subject.seq,
                seq: subject.seq,
                dtype: DType::F32,
                causal: subject.causal,
                backward,
            };
            let name = format!("N{} {} {}", subject.seq, shape.pass(), subject.name);
            bar.inc(1);
            if filter.is_some_and(|part| !name.contains(part)) {
                continue;
            }
            bar.set_message(name.clone());
            let line = measure_subject(subject, shape, kind, time)?;
            let ratio = line.with.as_secs_f64() / line.without.as_secs_f64();
            table.push([
                name,
                format!("{:.2}", milliseconds(line.with)),
                format!("{:.2}", milliseconds(line.without)),
                format!("{ratio:.3}"),
                line.tiles.map_or("-".into(), |tiles| format!("{tiles:.3}")),
                line.tiles
                    .map_or("-".into(), |tiles| format!("{:.0}%", 100.0 * tiles / ratio)),
            ]);
        }
    }
    bar.finish_and_clear();
    println!("{}\n\n{table}", heading(kind)?);
    println!(
        "by tiles: the share of the tiles that the map leaves, of those that attention beside it visits"
    );
    Ok(())
}

struct Line {
    with: Duration,
    without: Duration,
    /// The time that is left by counted tiles.
    tiles: Option<f64>,
}

fn measure_subject(
    subject: &Subject,
    shape: Shape,
    kind: DeviceKind,
    time: Duration,
) -> Result<Line> {
    let without = Workload::new(shape, Contender::Ours, &kind.open()?);
    without.warm_up_loss()?;
    let options = (subject.options)(subject.seq, without.device());
    let tiles = options.block_map.as_ref().map(|map| {
        let visited = 1.0 - map.sparsity();
        let blocks = map.shape().q_blocks() as f64;
        let beside = if subject.causal {
            (blocks + 1.0) / (2.0 * blocks)
        } else {
            1.0
        };
        visited / beside
    });
    let with = without.with_options(options);
    with.check()?;
    let runs = Scale::of(kind).runs_per_wait();
    let turns =
        [&with, &without].map(|workload| -> Turn { queue(runs, |runs| workload.run_queued(runs)) });
    let medians = measure(&turns, time)?;
    Ok(Line {
        with: medians[0],
        without: medians[1],
        tiles,
    })
}
