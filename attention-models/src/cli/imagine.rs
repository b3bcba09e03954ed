//! `attention imagine`: a picture of a prompt, what each word looked at, and the picture edited by
//! another prompt.

use std::{
    fs,
    path::{Path, PathBuf},
    str::FromStr,
    time::Instant,
};

use anyhow::{Context, Result, bail, ensure};
use burn::tensor::{Device, Tensor};
use clap::Args;
use image::{Rgb, RgbImage};
use indicatif::ProgressBar;

use super::heatmap::{self, HeatMap};
use super::{photo, precision::Precision};
use crate::models::checkpoint::find;
use crate::models::diffusion::{
    AttentionControl, Noise, Plain,
    pipeline::{
        Alignment, Guidance, Prompt, PromptToPrompt, SamplingConfig, StableDiffusion, WordMaps,
    },
};
use crate::models::preprocess::Resample;

/// The shortest side of a picture that is drawn on, in pixels.
const MAP_SIDE: usize = 256;

/// Draw what a prompt says, with a Stable Diffusion model
#[derive(Debug, Args)]
pub struct ImagineArgs {
    /// What the picture shows
    prompt: String,
    /// A folder of a Stable Diffusion pipeline as diffusers writes it, or the name of a fetched model
    #[arg(long, value_name = "DIR|NAME")]
    model: String,
    /// What the picture should not show
    #[arg(long, default_value = "", value_name = "PROMPT")]
    negative: String,
    /// Steps from noise to the picture
    #[arg(long, default_value_t = 30, value_name = "N")]
    steps: usize,
    /// How much the prompt counts; 1: as little as possible, at half the time
    #[arg(long, default_value_t = 7.5, value_name = "X")]
    guidance: f64,
    /// Another number is another picture
    #[arg(long, default_value_t = 0, value_name = "N")]
    seed: u64,
    /// Height and width in pixels; those that the model was made for if not given
    #[arg(long, value_name = "HxW")]
    size: Option<Size>,
    /// Draw the same picture for another prompt beside it, prompt-to-prompt
    #[arg(long, value_name = "PROMPT")]
    edit: Option<String>,
    /// See more, or less, of a word of the last prompt: `cat=2`; may be given several times
    #[arg(long, value_name = "WORD=X")]
    weight: Vec<Weight>,
    /// Write what each word looked at into this folder
    #[arg(long, value_name = "DIR", conflicts_with_all = ["edit", "weight"])]
    maps: Option<PathBuf>,
    /// Where the picture is written
    #[arg(short, long, default_value = "picture.png", value_name = "PNG")]
    output: PathBuf,
    /// Where the models run: auto, cpu, cubecl-cpu, vulkan, wgpu, cuda, rocm or metal
    #[arg(long, default_value = "auto", value_name = "D")]
    device: String,
    /// In which type the UNet computes
    #[arg(long, default_value = "f32", value_name = "T")]
    dtype: Precision,
}

/// `[height, width]`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Size([usize; 2]);

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let numbers = text.split_once('x');
        let numbers = numbers
            .and_then(|(height, width)| Some(Self([height.parse().ok()?, width.parse().ok()?])));
        numbers.ok_or_else(|| format!("`{text}` is no size; accepted: two numbers, as 512x512"))
    }
}

/// A factor of a word's map.
#[derive(Debug, Clone, PartialEq)]
struct Weight {
    word: String,
    factor: f64,
}

impl FromStr for Weight {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text.rsplit_once('=');
        let parts = parts.and_then(|(word, factor)| {
            let (word, factor) = (word.to_lowercase(), factor.parse().ok()?);
            Some(Self { word, factor })
        });
        parts.ok_or_else(|| {
            format!("`{text}` is no weight; accepted: a word and a number, as cat=2")
        })
    }
}

/// Runs `attention imagine`.
///
/// # Errors
///
/// A model that cannot be read, a size, a number of steps or a word that it does not have, a device
/// that is not there, or a picture that cannot be written.
pub fn run(args: ImagineArgs) -> Result<()> {
    let device = super::open_device(&args.device)?;
    let folder = find(&args.model)?;
    let bar = super::progress(args.steps + 2)?.with_message("load");
    let mut model = StableDiffusion::load(&folder, &device)?;
    model.latent.unet = args.dtype.of(model.latent.unet, &device)?;
    bar.inc(1);

    let prompt = model.prompt(&args.prompt)?;
    let edited = edited(&args, &model)?;
    let clock = Instant::now();
    let (pixels, maps) = match &edited {
        Some(second) => (edit(&args, &model, [&prompt, second], &bar, &device)?, None),
        None if args.maps.is_some() => {
            let mut maps = WordMaps::new(1);
            let pixels = draw(&args, &model, &[&prompt], &mut maps, &bar, &device)?;
            (pixels, Some(maps))
        }
        None => (
            draw(&args, &model, &[&prompt], &mut Plain, &bar, &device)?,
            None,
        ),
    };
    bar.finish_and_clear();

    let pictures = pictures(pixels)?;
    save(&heatmap::tile(&pictures), &args.output)?;
    println!(
        "{} steps in {:.1} s",
        args.steps,
        clock.elapsed().as_secs_f64()
    );
    println!("{}", args.output.display());
    if let (Some(maps), Some(folder)) = (maps, &args.maps) {
        write_maps(&maps, &prompt, &pictures[0], folder)?;
    }
    Ok(())
}

/// The prompt of a second picture, if there is one.
fn edited(args: &ImagineArgs, model: &StableDiffusion) -> Result<Option<Prompt>> {
    let text = match (&args.edit, args.weight.is_empty()) {
        (Some(text), _) => text,
        (None, false) => &args.prompt,
        (None, true) => return Ok(None),
    };
    Ok(Some(model.prompt(text)?))
}

/// Two pictures, the second with the maps of the first.
fn edit(
    args: &ImagineArgs,
    model: &StableDiffusion,
    [first, second]: [&Prompt; 2],
    bar: &ProgressBar,
    device: &Device,
) -> Result<Tensor<4>> {
    let tokens = model.tokens();
    let replaced = Alignment::replace(&first.words, &second.words, tokens);
    let alignment =
        replaced.unwrap_or_else(|| Alignment::refine(&first.words, &second.words, tokens));
    let mut control = PromptToPrompt::new(&alignment, device);
    for Weight { word, factor } in &args.weight {
        let known = second.words.iter().filter(|known| known.text == *word);
        let known: Vec<_> = known.map(|word| word.tokens.clone()).collect();
        if known.is_empty() {
            let words: Vec<_> = second.words.iter().map(|word| word.text.as_str()).collect();
            bail!("`--weight` names `{word}`; accepted: {}", words.join(", "));
        }
        for tokens in known {
            control = control.with_weight(tokens, *factor);
        }
    }
    draw(args, model, &[first, second], &mut control, bar, device)
}

/// The pixels of a picture for each prompt, from the same noise.
fn draw(
    args: &ImagineArgs,
    model: &StableDiffusion,
    prompts: &[&Prompt],
    control: &mut dyn AttentionControl,
    bar: &ProgressBar,
    device: &Device,
) -> Result<Tensor<4>> {
    let latent = &model.latent;
    let count = prompts.len();
    let size = args.size.map_or(latent.size(), |size| size.0);
    let mut generator = Noise::new(args.seed);
    let noise = latent.noise(1, size, &mut generator, device)?;
    let negative = model.prompt(&args.negative)?.embedding;
    let text = prompts.iter().map(|prompt| prompt.embedding.clone());
    let guidance = Guidance {
        text: Tensor::cat(text.collect(), 0),
        negative: Tensor::cat(vec![negative; count], 0),
    };
    let config = SamplingConfig::new()
        .with_steps(args.steps)
        .with_guidance(args.guidance);
    bar.set_message("draw");
    let noise = Tensor::cat(vec![noise; count], 0);
    let latents = latent.sample(
        noise,
        &guidance,
        &config,
        control,
        &mut generator,
        |_, _| {
            bar.inc(1);
        },
    )?;
    bar.set_message("decode");
    Ok(latent.decode(latents)?)
}

/// `[images, 3, height, width]` from 0 to 1 as pictures.
fn pictures(pixels: Tensor<4>) -> Result<Vec<RgbImage>> {
    let [_, channels, height, width] = pixels.dims();
    ensure!(
        channels == 3,
        "the autoencoder has {channels} channels; accepted: 3"
    );
    let values = pixels.into_data().try_to_vec::<f32>()?;
    let picture = |values: &[f32]| {
        RgbImage::from_fn(width as u32, height as u32, |x, y| {
            let at = |channel: usize| values[(channel * height + y as usize) * width + x as usize];
            Rgb([0, 1, 2].map(|channel| (at(channel) * 255.0).round().clamp(0.0, 255.0) as u8))
        })
    };
    Ok(values.chunks(3 * height * width).map(picture).collect())
}

/// A picture for each word, under the colours of its map.
fn write_maps(maps: &WordMaps, prompt: &Prompt, picture: &RgbImage, folder: &Path) -> Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("`{}` cannot be made", folder.display()))?;
    let size = photo::size(picture);
    let zoom = MAP_SIDE.div_ceil(size[0].min(size[1]).max(1)).max(1);
    let picture = photo::resize(picture, size.map(|side| side * zoom), Resample::Bicubic);
    for (index, word) in prompt.words.iter().enumerate() {
        let Some(heat) = maps.heat(0, word.tokens.clone()) else {
            continue;
        };
        let map = HeatMap {
            caption: word.text.clone(),
            grid: heat.grid,
            values: heat.values,
        };
        let letters = |letter: char| {
            if letter.is_alphanumeric() {
                letter
            } else {
                '_'
            }
        };
        let name: String = word.text.chars().map(letters).collect();
        let path = folder.join(format!("{index:02}-{name}.png"));
        save(&map.over(&picture), &path)?;
    }
    println!("{}", folder.display());
    Ok(())
}

fn save(picture: &RgbImage, path: &Path) -> Result<()> {
    picture
        .save(path)
        .with_context(|| format!("`{}` cannot be written", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_weights_are_read_or_refused_with_an_example() {
        assert_eq!("256x512".parse(), Ok(Size([256, 512])));
        assert!("256".parse::<Size>().unwrap_err().contains("512x512"));
        let weight = "Cat=-1.5".parse::<Weight>().unwrap();
        assert_eq!((weight.word.as_str(), weight.factor), ("cat", -1.5));
        assert!("cat".parse::<Weight>().unwrap_err().contains("cat=2"));
    }
}
