//! `attention terrain`: a landscape in one step, as a height map and as a picture.

use std::{
    path::{Path, PathBuf},
    time::Instant,
};

use anyhow::{Context, Result, ensure};
use clap::Args;
use image::{
    ImageBuffer, Luma, Rgb, RgbImage,
    imageops::{self, FilterType},
};

use super::precision::Precision;
use crate::models::checkpoint::find;
use crate::models::diffusion::guided::{GuidedUNet, Terrain};

/// How much larger than the height map the picture is.
const ZOOM: u32 = 4;
/// The distance of two heights, as heights are counted.
const SPACING: f32 = 0.1;
/// Colours from the lowest to the highest place, between equal shares of heights.
const COLOURS: [[f32; 3]; 5] = [
    [70.0, 110.0, 75.0],
    [130.0, 155.0, 90.0],
    [190.0, 170.0, 120.0],
    [165.0, 135.0, 115.0],
    [245.0, 245.0, 245.0],
];

/// Draw a landscape: a grey height map, and beside it a hill-shaded picture
#[derive(Debug, Args)]
pub struct TerrainArgs {
    /// A model folder, or the name of a model fetched by `cargo xtask models fetch`
    #[arg(long, default_value = "terrain", value_name = "DIR|NAME")]
    model: String,
    /// How steep, from 1 to 100
    #[arg(long, default_value_t = 70, value_name = "N")]
    difficulty: usize,
    /// Another number is another landscape
    #[arg(long, default_value_t = 0, value_name = "N")]
    seed: u64,
    /// The height map, 16 bits of grey; the picture is written beside it, as `NAME-shaded.png`
    #[arg(short, long, default_value = "height.png", value_name = "PNG")]
    output: PathBuf,
    /// Where the model runs: auto, cpu, cubecl-cpu, vulkan, wgpu, cuda, rocm or metal
    #[arg(long, default_value = "auto", value_name = "D")]
    device: String,
    /// The type that the model computes in
    #[arg(long, default_value = "f32", value_name = "T")]
    dtype: Precision,
}

/// Runs `attention terrain`.
///
/// # Errors
///
/// A model that cannot be read, a difficulty that there is not, a device that is not there, or a
/// picture that cannot be written.
pub fn run(args: TerrainArgs) -> Result<()> {
    let shaded = beside(&args.output)?;
    let device = super::open_device(&args.device)?;
    let folder = find(&args.model)?;
    let bar = super::progress(2)?.with_message("load");
    let model = args
        .dtype
        .of(GuidedUNet::load(&folder, &device)?, &device)?;
    bar.inc(1);
    bar.set_message("draw");
    let clock = Instant::now();
    let terrain = model.terrain(args.difficulty, args.seed, &device)?;
    bar.finish_and_clear();

    let written = |path: &Path| format!("`{}` cannot be written", path.display());
    grey(&terrain)
        .save(&args.output)
        .with_context(|| written(&args.output))?;
    picture(&terrain)
        .save(&shaded)
        .with_context(|| written(&shaded))?;
    println!(
        "{0} x {0}, heights to {1:.2}; drawn in {2:.2} s",
        terrain.size,
        terrain.highest(),
        clock.elapsed().as_secs_f64()
    );
    println!("{}\n{}", args.output.display(), shaded.display());
    Ok(())
}

/// Where the picture goes.
fn beside(output: &Path) -> Result<PathBuf> {
    let png = output.extension().is_some_and(|ending| ending == "png");
    let stem = output.file_stem().and_then(|stem| stem.to_str());
    ensure!(
        png && stem.is_some(),
        "`--output` is `{}`; accepted: the name of a PNG",
        output.display()
    );
    Ok(output.with_file_name(format!("{}-shaded.png", stem.unwrap_or_default())))
}

/// Black at the lowest place, white at the highest.
fn grey(terrain: &Terrain) -> ImageBuffer<Luma<u16>, Vec<u16>> {
    let side = terrain.size as u32;
    let highest = terrain.highest().max(f32::MIN_POSITIVE);
    ImageBuffer::from_fn(side, side, |x, y| {
        let height = terrain.heights[y as usize * terrain.size + x as usize];
        Luma([(height / highest * f32::from(u16::MAX)).round() as u16])
    })
}

/// Colours by height, in the light of a low sun.
fn picture(terrain: &Terrain) -> RgbImage {
    let side = terrain.size as u32;
    let highest = terrain.highest().max(f32::MIN_POSITIVE);
    let light = terrain.shade(SPACING);
    let picture = RgbImage::from_fn(side, side, |x, y| {
        let place = y as usize * terrain.size + x as usize;
        let colour = colour_of(terrain.heights[place] / highest);
        let light = 0.35 + 0.9 * light[place];
        Rgb(colour.map(|channel| (channel * light).round().clamp(0.0, 255.0) as u8))
    });
    imageops::resize(&picture, ZOOM * side, ZOOM * side, FilterType::CatmullRom)
}

/// The colour at a share of the highest height.
fn colour_of(share: f32) -> [f32; 3] {
    let steps = (COLOURS.len() - 1) as f32;
    let place = share.clamp(0.0, 1.0) * steps;
    let below = (place as usize).min(COLOURS.len() - 2);
    let part = place - below as f32;
    let (low, high) = (COLOURS[below], COLOURS[below + 1]);
    std::array::from_fn(|channel| low[channel] + (high[channel] - low[channel]) * part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_picture_lies_beside_the_height_map() {
        let path = beside(Path::new("maps/alps.png")).unwrap();
        assert_eq!(path, Path::new("maps/alps-shaded.png"));
        let refusal = beside(Path::new("alps.jpg")).unwrap_err().to_string();
        assert_eq!(
            refusal,
            "`--output` is `alps.jpg`; accepted: the name of a PNG"
        );
    }

    #[test]
    fn the_highest_place_is_white_and_the_lowest_black() {
        let heights = vec![0.0, 1.0, 2.0, 4.0];
        let image = grey(&Terrain { size: 2, heights });
        assert_eq!(image.get_pixel(0, 0).0, [0]);
        assert_eq!(image.get_pixel(1, 1).0, [u16::MAX]);
        assert_eq!(colour_of(1.0), COLOURS[4]);
    }
}
