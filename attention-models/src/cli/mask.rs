//! `attention mask`: which blocks of the score matrix a mask of the literature leaves, as a picture.

use std::path::PathBuf;

use anyhow::{Context, Result};
use burn::tensor::{Device, Int, Tensor};
use clap::{Args, ValueEnum};
use image::RgbImage;

use super::{heatmap, open_device};
use crate::ops::{BLOCK_STEP, BlockMap, BlockShape, MaskMod, Tile, variants};

/// Draw which blocks of the score matrix a mask leaves, and say how many are skipped
#[derive(Debug, Args)]
pub struct MaskArgs {
    /// The mask
    #[arg(value_name = "NAME")]
    name: Pattern,
    /// Where to write the picture
    #[arg(short, long, default_value = "mask.png", value_name = "FILE")]
    output: PathBuf,
    /// Queries and keys
    #[arg(long, default_value_t = 4096, value_name = "N")]
    seq: usize,
    /// Tokens of a block: a multiple of 64
    #[arg(long, default_value_t = BLOCK_STEP, value_name = "N")]
    block: usize,
    /// The reach of a window, the stride of a pattern, the length of a prefix or a document
    #[arg(long, default_value_t = 256, value_name = "N")]
    size: u32,
    /// The device: auto, cpu, cubecl-cpu, vulkan, wgpu, cuda, rocm or metal
    #[arg(long, default_value = "cpu", value_name = "D")]
    device: String,
}

/// The masks, with how they use the size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Pattern {
    /// Keys up to the query
    Causal,
    /// Causal, the last SIZE keys: Mistral, Gemma
    SlidingWindow,
    /// SIZE keys to each side, every second one, and 4 global tokens: Longformer
    Longformer,
    /// The first 4 keys and the last SIZE: StreamingLLM
    StreamingLlm,
    /// A prefix of SIZE tokens sees itself whole, the rest is causal
    PrefixLm,
    /// Documents of SIZE tokens, each causal
    Documents,
    /// Blocks of SIZE tokens: a window, the edges, and one block given for each: BigBird
    BigBird,
    /// Causal, the last SIZE keys and every SIZE-th before them: Sparse Transformer
    Strided,
    /// Causal, the own block of SIZE and the last 8 keys of each earlier one: Sparse Transformer
    Fixed,
}

/// Makes the map on the device, writes the picture and prints the numbers.
///
/// # Errors
/// A device that is not there, a block that no map has, or a file that cannot be written.
pub fn run(args: &MaskArgs) -> Result<()> {
    let device = open_device(&args.device)?;
    let shape = BlockShape::new(args.seq, args.seq).with_blocks(args.block, args.block);
    shape.validate()?;
    let mask = args.name.mask(args.seq, args.size.max(1), &device);
    let map = BlockMap::try_new(mask, shape, &device)?;
    let tiles = map.tiles();
    let count = |tile: Tile| tiles.iter().filter(|&&other| other == tile).count();
    let [full, partial, empty] = [Tile::Full, Tile::Partial, Tile::Empty].map(count);
    let skipped = 100.0 * map.sparsity();

    let caption = format!("{skipped:.1}% skipped");
    let picture = draw(&tiles, shape.kv_blocks(), &caption);
    picture
        .save(&args.output)
        .with_context(|| format!("`{}` cannot be written", args.output.display()))?;
    println!(
        "{} tiles of {} x {}: {full} full, {partial} partial, {empty} empty; {skipped:.1}% skipped",
        tiles.len(),
        args.block,
        args.block,
    );
    println!("{}", args.output.display());
    Ok(())
}

impl Pattern {
    fn mask(self, seq: usize, size: u32, device: &Device) -> MaskMod {
        let integers = |of: &dyn Fn(u32) -> u32, count: usize| {
            let values: Vec<_> = (0..count as u32).map(|n| of(n) as i32).collect();
            Tensor::<1, Int>::from_data(values.as_slice(), device)
        };
        let causal = || variants::causal(0);
        let own_block = || {
            let blocks = integers(&|token| token / size, seq);
            variants::same_document(blocks.clone(), blocks)
        };
        match self {
            Self::Causal => causal(),
            Self::SlidingWindow => variants::sliding_window(size - 1, 0, 0),
            Self::Longformer => {
                let flags = integers(&|token| u32::from(token < 4), seq);
                variants::dilated_window(size / 2, 2).or(variants::flagged_tokens(flags))
            }
            Self::StreamingLlm => {
                let window = variants::sliding_window(size - 1, 0, 0);
                variants::first_tokens(4).or(window).and(causal())
            }
            Self::PrefixLm => variants::prefix_lm(integers(&|_| size, 1)),
            Self::Documents => own_block().and(causal()),
            Self::BigBird => {
                let blocks = (seq as u32).div_ceil(size);
                let inner = blocks.saturating_sub(2).max(1);
                // As good as random, and the same on every run.
                let given = integers(&|n| (n + 1) * 7919 % blocks, inner as usize);
                variants::big_bird(size, seq as u32, 1, given)
            }
            Self::Strided => {
                let near = variants::sliding_window(size - 1, 0, 0);
                near.or(variants::strided(size)).and(causal())
            }
            Self::Fixed => {
                let summary = variants::fixed_summary(size, 8);
                own_block().or(summary).and(causal())
            }
        }
    }
}

/// The side of the picture that is aimed at, in pixels.
const SIDE: usize = 768;

/// Bright where a tile is full, half as bright where it is partial.
fn draw(tiles: &[Tile], columns: usize, caption: &str) -> RgbImage {
    let cell = (SIDE / columns).clamp(1, 32) as u32;
    let rows = tiles.len() / columns;
    let (width, height) = (columns as u32 * cell, rows as u32 * cell);
    let mut picture = heatmap::captioned(width.max(256), height, caption);
    for (n, tile) in tiles.iter().enumerate() {
        let colour = heatmap::heat_colour(match tile {
            Tile::Empty => continue,
            Tile::Partial => 0.45,
            Tile::Full => 0.85,
        });
        let (left, top) = ((n % columns) as u32 * cell, (n / columns) as u32 * cell);
        // A seam between cells that are large enough for one.
        let inner = cell - u32::from(cell > 3);
        for y in top..top + inner {
            (left..left + inner).for_each(|x| picture.put_pixel(x, y, colour));
        }
    }
    picture
}
