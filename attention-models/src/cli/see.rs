//! `attention see`: what a Vision Transformer's class token looks at in a photo.

use std::{
    path::PathBuf,
    str::FromStr,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use burn::tensor::{Device, Tensor};
use clap::Args;
use image::RgbImage;

use super::heatmap::{self, HeatMap};
use super::{photo, precision::Precision};
use crate::models::checkpoint::find;
use crate::models::preprocess::{ImageProcessor, Resample, whole_photo_size};
use crate::models::vit::{RelativePositions, VisionTransformer};

/// The longest side of a picture with one map, in pixels.
const SINGLE_SIDE: usize = 1024;
/// The longest side of each picture in a grid.
const TILE_SIDE: usize = 480;

/// Draw what a model's class token attends to over a photo.
#[derive(Debug, Args)]
pub struct SeeArgs {
    /// The photo: JPEG or PNG
    image: PathBuf,
    /// A model folder, or the name of a model fetched by `cargo xtask models fetch`
    #[arg(long, default_value = "dinov2_s14", value_name = "DIR|NAME")]
    model: String,
    /// The layer, from 0; the last one if not given
    #[arg(long, value_name = "L")]
    layer: Option<usize>,
    /// A head from 0, `mean`, `all` (a grid), or `rollout` (attention through all layers)
    #[arg(long, default_value = "mean", value_name = "H|mean|all|rollout")]
    head: Heads,
    /// Show the model the middle of the photo, as its preprocessor says, not all of it
    #[arg(long)]
    crop: bool,
    /// Where the picture is written
    #[arg(short, long, default_value = "attention.png", value_name = "PNG")]
    output: PathBuf,
    /// Where the model runs: auto, cpu, cubecl-cpu, vulkan, wgpu, cuda, rocm or metal
    #[arg(long, default_value = "auto", value_name = "D")]
    device: String,
    /// The type that the model computes in
    #[arg(long, default_value = "f32", value_name = "T")]
    dtype: Precision,
}

/// Which of a layer's maps are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Heads {
    One(usize),
    Mean,
    All,
    Rollout,
}

impl FromStr for Heads {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "mean" => Ok(Self::Mean),
            "all" => Ok(Self::All),
            "rollout" => Ok(Self::Rollout),
            number => number.parse().map(Self::One).map_err(|_| {
                format!("`{text}` is no head; accepted: a number from 0, mean, all, rollout")
            }),
        }
    }
}

/// Runs `attention see`.
///
/// # Errors
///
/// A photo or a model that cannot be read, a layer or head that the model does not have, a device
/// that is not there, or a picture that cannot be written.
pub fn run(args: SeeArgs) -> Result<()> {
    let clock = Instant::now();
    let mut steps = Steps::default();

    let source = steps.time("decode", || photo::open(&args.image))?;
    let device = super::open_device(&args.device)?;
    let folder = find(&args.model)?;
    let model = steps.time("load", || {
        let model = VisionTransformer::load(&folder, &device)?;
        args.dtype.of(model, &device)
    })?;
    let choice = Choice::of(&args, &model)?;

    let (view, pixels) = steps.time("preprocess", || {
        let processor = ImageProcessor::load(&folder)?;
        anyhow::Ok(preprocess(&source, &processor, &model, args.crop, &device))
    })?;
    let grid = model.embeddings.grid(&pixels)?;
    let maps = steps.time("forward", || choice.maps(&model, pixels))?;
    let picture = steps.time("map", || draw(&view, grid, maps));
    steps.time("write", || {
        picture
            .save(&args.output)
            .with_context(|| format!("`{}` cannot be written", args.output.display()))
    })?;

    println!(
        "{} tokens, {} layers, {} heads; {}",
        grid[0] * grid[1] + model.config().prefix_tokens(),
        model.config().layers,
        model.config().heads,
        steps.summary(clock.elapsed())
    );
    println!("{}", args.output.display());
    Ok(())
}

/// What is shown, checked against the model.
struct Choice {
    layer: usize,
    heads: Heads,
}

impl Choice {
    fn of(args: &SeeArgs, model: &VisionTransformer) -> Result<Self> {
        let (layers, heads) = (model.config().layers, model.config().heads);
        if let Heads::One(head) = args.head
            && head >= heads
        {
            bail!(
                "`--head` is {head}; accepted: 0 to {}, mean, all, rollout",
                heads - 1
            );
        }
        match args.layer {
            Some(_) if args.head == Heads::Rollout => {
                bail!(
                    "`--layer` is given with `--head rollout`, which goes through all layers; accepted: one of them"
                )
            }
            Some(layer) if layer >= layers => {
                bail!("`--layer` is {layer}; accepted: 0 to {}", layers - 1)
            }
            layer => Ok(Self {
                layer: layer.unwrap_or(layers - 1),
                heads: args.head,
            }),
        }
    }

    /// Captions, and attention to every token.
    fn maps(
        &self,
        model: &VisionTransformer,
        pixels: Tensor<4>,
    ) -> Result<Vec<(String, Vec<f32>)>> {
        let prefix = model.config().prefix_tokens();
        let patches = |row: Tensor<1>| row.slice_dim(0, prefix..).try_into_vec_as::<f32>();
        if self.heads == Heads::Rollout {
            let rollout = model.class_rollout(pixels)?.squeeze_dim::<1>(0);
            return Ok(vec![("rollout".to_string(), patches(rollout)?)]);
        }
        let layer = self.layer;
        let attention = model.class_attention(pixels, layer)?.squeeze_dim::<2>(0);
        let head = |head: usize| {
            let row = attention.clone().slice_dim(0, head..head + 1);
            let caption = format!("layer {layer} head {head}");
            anyhow::Ok((caption, patches(row.squeeze_dim::<1>(0))?))
        };
        match self.heads {
            Heads::One(index) => Ok(vec![head(index)?]),
            Heads::All => (0..model.config().heads).map(head).collect(),
            _ => {
                let mean = attention.mean_dim(0).squeeze_dim::<1>(0);
                Ok(vec![(format!("layer {layer} mean"), patches(mean)?)])
            }
        }
    }
}

/// What of the photo the model sees, and the model's input.
fn preprocess(
    source: &RgbImage,
    processor: &ImageProcessor,
    model: &VisionTransformer,
    crop: bool,
    device: &Device,
) -> (RgbImage, Tensor<4>) {
    let size = photo::size(source);
    let (view, input) = if crop {
        let (resized, area) = processor.plan(size);
        let input = photo::crop(&photo::resize(source, resized, processor.resample), area);
        (input.clone(), input)
    } else {
        let config = model.config();
        let target = match config.relative_positions {
            RelativePositions::None => whole_photo_size(size, config.image_size, config.patch_size),
            // They fit no other image.
            _ => [config.image_size; 2],
        };
        let input = photo::resize(source, target, processor.resample);
        (source.clone(), input)
    };
    let pixels = processor.normalize(input.as_raw(), photo::size(&input), device);
    (view, pixels)
}

fn draw(view: &RgbImage, grid: [usize; 2], maps: Vec<(String, Vec<f32>)>) -> RgbImage {
    let longest = if maps.len() == 1 {
        SINGLE_SIDE
    } else {
        TILE_SIDE
    };
    let size = photo::size(view);
    let zoom = (longest as f64 / size[0].max(size[1]) as f64).min(2.0);
    let size = size.map(|side| ((side as f64 * zoom).round() as usize).max(1));
    let view = photo::resize(view, size, Resample::Bicubic);
    let panels: Vec<_> = maps
        .into_iter()
        .map(|(caption, values)| {
            let map = HeatMap {
                caption,
                grid,
                values,
            };
            map.over(&view)
        })
        .collect();
    heatmap::tile(&panels)
}

/// How long each step took.
#[derive(Default)]
struct Steps(Vec<(&'static str, Duration)>);

impl Steps {
    fn time<T>(&mut self, name: &'static str, step: impl FnOnce() -> T) -> T {
        let start = Instant::now();
        let result = step();
        self.0.push((name, start.elapsed()));
        result
    }

    fn summary(&self, total: Duration) -> String {
        let steps = self
            .0
            .iter()
            .map(|(name, time)| format!("{name} {:.2} s", time.as_secs_f64()));
        let steps: Vec<_> = steps.collect();
        format!("{}, total {:.2} s", steps.join(", "), total.as_secs_f64())
    }
}
