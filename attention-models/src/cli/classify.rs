//! `attention classify`: what a Vision Transformer or a Swin Transformer takes a photo for.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};
use burn::tensor::{Device, Tensor, activation::softmax};
use clap::Args;

use super::{photo, precision::Precision, table::Table};
use crate::models::checkpoint::{Checkpoint, CheckpointError, find};
use crate::models::preprocess::ImageProcessor;
use crate::models::swin::SwinTransformer;
use crate::models::vit::VisionTransformer;

/// Say what a photo shows, by a model with a classification head
#[derive(Debug, Args)]
pub struct ClassifyArgs {
    /// The photo: JPEG or PNG
    image: PathBuf,
    /// A model folder, or the name of a fetched model
    #[arg(long, value_name = "DIR|NAME")]
    model: String,
    /// How many labels are shown
    #[arg(long, default_value_t = 5, value_name = "K")]
    top: usize,
    /// Where the model runs: auto, cpu, cubecl-cpu, vulkan, wgpu, cuda, rocm or metal
    #[arg(long, default_value = "auto", value_name = "D")]
    device: String,
    /// The type that the model computes in
    #[arg(long, default_value = "f32", value_name = "T")]
    dtype: Precision,
}

/// A model with a head.
enum Classifier {
    Vit(Box<VisionTransformer>),
    Swin(Box<SwinTransformer>),
}

/// Runs `attention classify`.
///
/// # Errors
///
/// A photo or a model that cannot be read, a model without labels, or a device that is not there.
pub fn run(args: &ClassifyArgs) -> Result<()> {
    ensure!(args.top > 0, "`--top` is 0; accepted: at least 1");
    let source = photo::open(&args.image)?;
    let device = super::open_device(&args.device)?;
    let folder = find(&args.model)?;
    let checkpoint = Checkpoint::open(&folder)?;
    let classifier = Classifier::load(args, &checkpoint, &folder, &device)?;
    let processor = ImageProcessor::load(&folder)?;
    let (resized, area) = processor.plan(photo::size(&source));
    let seen = photo::crop(&photo::resize(&source, resized, processor.resample), area);
    let pixels = processor.normalize(seen.as_raw(), photo::size(&seen), &device);
    let logits = classifier.logits(pixels)?.with_context(|| {
        format!(
            "the model in `{}` has no labels; accepted: a model with a classification head",
            folder.display()
        )
    })?;
    let probabilities = softmax(logits, 1).try_into_vec_as::<f32>()?;
    print!("{}", table(&probabilities, &labels(&checkpoint)?, args.top));
    Ok(())
}

impl Classifier {
    fn load(
        args: &ClassifyArgs,
        checkpoint: &Checkpoint,
        folder: &Path,
        device: &Device,
    ) -> Result<Self> {
        let class = checkpoint.architecture().unwrap_or_default();
        if class.starts_with("Swin") {
            let model = SwinTransformer::load(folder, device)?;
            return Ok(Self::Swin(Box::new(args.dtype.of(model, device)?)));
        }
        let model = VisionTransformer::load(folder, device)?;
        Ok(Self::Vit(Box::new(args.dtype.of(model, device)?)))
    }

    fn logits(&self, pixels: Tensor<4>) -> Result<Option<Tensor<2>>> {
        Ok(match self {
            Self::Vit(model) => model.try_forward(pixels)?.logits,
            Self::Swin(model) => model.try_forward(pixels)?.logits,
        })
    }
}

/// The names of labels in `config.json`, by their numbers.
fn labels(checkpoint: &Checkpoint) -> Result<BTreeMap<usize, String>, CheckpointError> {
    #[derive(serde::Deserialize)]
    struct Labels {
        #[serde(default)]
        id2label: BTreeMap<String, String>,
    }
    let Labels { id2label } = checkpoint.config()?;
    let numbered = id2label.into_iter().map(|(number, label)| {
        let number = number.parse().map_err(|_| {
            checkpoint.invalid_config(format!(
                "`id2label` has the key {number}; accepted: numbers"
            ))
        })?;
        Ok((number, label))
    });
    numbered.collect()
}

fn table(probabilities: &[f32], labels: &BTreeMap<usize, String>, top: usize) -> Table {
    let mut order: Vec<usize> = (0..probabilities.len()).collect();
    order.sort_by(|a, b| probabilities[*b].total_cmp(&probabilities[*a]));
    let mut table = Table::new(["probability", "label"]);
    for index in order.into_iter().take(top) {
        let label = labels.get(&index).cloned();
        table.push([
            format!("{:10.1}%", 100.0 * probabilities[index]),
            label.unwrap_or_else(|| index.to_string()),
        ]);
    }
    table
}
