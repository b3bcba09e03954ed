//! `attention draw`: handwritten digits by a small diffusion UNet.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use burn::tensor::{Device, Tensor};
use clap::Args;
use image::{GrayImage, Luma};

use super::precision::Precision;
use crate::models::checkpoint::find;
use crate::models::diffusion::UNet2DModel;
use crate::models::vit::VisionTransformer;
use crate::training::{Digits, Drawing, Hand};

/// Digits of a row of the picture at most.
const ROW: usize = 10;

/// Draw handwritten digits, by a model that `attention train diffusion` made
#[derive(Debug, Args)]
pub struct DrawArgs {
    /// What is drawn, such as 31415926
    digits: String,
    /// The model's folder
    #[arg(long, value_name = "DIR")]
    model: String,
    /// A folder of a ViT that `attention train vit` made, which then reads what was drawn
    #[arg(long, value_name = "DIR")]
    reader: Option<PathBuf>,
    /// Steps from noise to a digit
    #[arg(long, default_value_t = Hand::default().steps, value_name = "N")]
    steps: usize,
    /// How much the digit asked for counts over any: more is clearer and less varied
    #[arg(long, default_value_t = Hand::default().guidance, value_name = "G")]
    guidance: f64,
    /// Another number is another drawing
    #[arg(long, default_value_t = Hand::default().seed, value_name = "N")]
    seed: u64,
    /// The picture
    #[arg(short, long, default_value = "digits.png", value_name = "PNG")]
    output: PathBuf,
    /// Where the model runs: auto, cpu, cubecl-cpu, vulkan, wgpu, cuda, rocm or metal
    #[arg(long, default_value = "auto", value_name = "D")]
    device: String,
    /// The type that the model computes in
    #[arg(long, default_value = "f32", value_name = "T")]
    dtype: Precision,
}

/// Runs `attention draw`.
///
/// # Errors
///
/// Something that is no digit, a model that cannot be read or draws something else, a device that is
/// not there, or a picture that cannot be written.
pub fn run(args: &DrawArgs) -> Result<()> {
    let digits = digits(&args.digits)?;
    let device = super::open_device(&args.device)?;
    let folder = find(&args.model)?;
    let model = args
        .dtype
        .of(UNet2DModel::load(&folder, &device)?, &device)?;
    let hand = Hand {
        steps: args.steps,
        guidance: args.guidance,
        seed: args.seed,
    };
    let drawn = Drawing::draw(&model, &digits, hand)?;
    if let Some(reader) = &args.reader {
        read(reader, drawn.clone(), &digits, &device)?;
    }
    save(drawn, &args.output)
}

fn digits(text: &str) -> Result<Vec<u8>> {
    let digit = |character: char| {
        let digit = character.to_digit(10).map(|digit| digit as u8);
        digit.with_context(|| format!("`DIGITS` has `{character}`; accepted: 0 to 9"))
    };
    let digits = text.chars().map(digit).collect::<Result<Vec<_>>>()?;
    ensure!(!digits.is_empty(), "`DIGITS` is empty; accepted: 0 to 9");
    Ok(digits)
}

/// Says how many drawn digits a trained ViT reads as those that were asked for.
///
/// # Errors
/// A folder that cannot be read.
pub fn read(reader: &Path, drawn: Tensor<4>, asked: &[u8], device: &Device) -> Result<()> {
    let reader = VisionTransformer::load(reader, device)?;
    let answers = Digits::read(&reader, drawn);
    let right = answers.iter().zip(asked).filter(|(a, b)| a == b).count();
    println!(
        "{right} of {} digits are read as those asked for",
        asked.len()
    );
    Ok(())
}

/// Writes drawn digits `[digits, 1, height, width]` as a picture of rows of ten.
///
/// # Errors
/// A picture that cannot be written.
pub fn save(drawn: Tensor<4>, path: &Path) -> Result<()> {
    let [digits, _, height, width] = drawn.dims();
    let values = drawn.try_into_vec_as::<f32>()?;
    let columns = digits.min(ROW);
    let size = [columns * width, digits.div_ceil(ROW) * height].map(|side| side as u32);
    let picture = GrayImage::from_fn(size[0], size[1], |x, y| {
        let (x, y) = (x as usize, y as usize);
        let digit = y / height * ROW + x / width;
        let place = (digit * height + y % height) * width + x % width;
        let value = values.get(place).copied().unwrap_or(-1.0);
        Luma([((value + 1.0) * 127.5).round() as u8])
    });
    picture
        .save(path)
        .with_context(|| format!("`{}` cannot be written", path.display()))?;
    println!("{}", path.display());
    Ok(())
}
