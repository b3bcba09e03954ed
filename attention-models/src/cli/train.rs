//! `attention train`: the reference models, from random weights.

use std::{path::PathBuf, time::Instant};

use anyhow::{Context, Result};
use burn::tensor::Device;
use clap::{Args, ValueEnum};
use indicatif::ProgressBar;

use super::{draw, precision::Precision};
use crate::models::checkpoint::cache_folder;
use crate::ops::comparison::with_burn_attention;
use crate::training::{
    Characters, Digits, Drawing, Event, Hand, Metric, Mnist, Outcome, Task, Text, Trainer,
    TrainingConfig,
};

/// Characters of the text that a trained model writes.
const SAMPLE: usize = 400;
/// Rows of the picture of drawn digits.
const ROWS: usize = 20;

/// Train a small model from random weights; a killed run goes on where its last checkpoint ends
#[derive(Debug, Args)]
pub struct TrainArgs {
    /// What is trained
    #[arg(value_enum)]
    model: Trained,
    /// The folder of the run: its checkpoints and, at its end, its model
    #[arg(short, long, value_name = "DIR")]
    output: PathBuf,
    /// The folder of the data; what `cargo xtask data fetch` put into the cache if not given
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Batches that are learned from
    #[arg(long, value_name = "N")]
    steps: Option<usize>,
    /// Examples of a batch
    #[arg(long, value_name = "N")]
    batch: Option<usize>,
    /// The highest learning rate
    #[arg(long, value_name = "R")]
    learning_rate: Option<f64>,
    /// Steps between two checkpoints
    #[arg(long, value_name = "N")]
    checkpoint_every: Option<usize>,
    /// Everything random follows from it
    #[arg(long, default_value_t = 42, value_name = "N")]
    seed: u64,
    /// Where the model is trained: auto, cpu, cubecl-cpu, vulkan, wgpu, cuda, rocm or metal
    #[arg(long, default_value = "auto", value_name = "D")]
    device: String,
    /// A folder of a trained ViT, which then says whether the digits that `diffusion` draws are those
    /// that were asked for
    #[arg(long, value_name = "DIR")]
    reader: Option<PathBuf>,
    /// The type that the model computes in, f32 or bf16; its parameters are kept in f32
    #[arg(long, default_value = "f32", value_name = "T")]
    dtype: Precision,
    /// The type that the trained model is written in
    #[arg(long, default_value = "f32", value_name = "T")]
    save_dtype: Precision,
    /// Whose attention the model is trained with
    #[arg(long, value_enum, default_value_t = Whose::Ours, value_name = "A")]
    attention: Whose,
}

/// Whose attention runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Whose {
    /// The fused kernels
    Ours,
    /// Burn's own operation, to compare
    Burn,
}

/// What can be trained.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Trained {
    /// A Vision Transformer that reads MNIST's digits
    Vit,
    /// A Llama that writes Shakespeare's plays on, character by character
    Lm,
    /// A diffusion UNet that draws MNIST's digits
    Diffusion,
}

/// Runs `attention train`.
///
/// # Errors
///
/// Data that are not there, a device that is not there, a folder with a run of other settings, or a
/// loss that is no number any more.
pub fn run(args: &TrainArgs) -> Result<()> {
    let train = || match args.model {
        Trained::Vit => vit(args),
        Trained::Lm => language_model(args),
        Trained::Diffusion => diffusion(args),
    };
    match args.attention {
        Whose::Ours => train(),
        Whose::Burn => with_burn_attention(train),
    }
}

fn vit(args: &TrainArgs) -> Result<()> {
    let mnist = Mnist::load(&args.data("mnist")?)?;
    let device = super::open_device(&args.device)?;
    let task = Digits::new(mnist, args.batch.unwrap_or(100), args.seed, &device);
    let config = TrainingConfig::new(args.steps.unwrap_or(30 * task.steps_per_epoch()))
        .with_learning_rate(2e-3)
        .with_evaluate_every(5 * task.steps_per_epoch());
    let trainer = Trainer::new(args.applied_to(config, &device)?, &args.output, &device);
    let outcome = follow(&trainer, &task)?;
    let model = args.save_dtype.of(outcome.model, &device)?;
    task.save(&model, &args.output)?;
    println!("{}", args.output.display());
    Ok(())
}

fn language_model(args: &TrainArgs) -> Result<()> {
    let text = Text::load(&args.data("shakespeare")?)?;
    let device = super::open_device(&args.device)?;
    let task = Characters::new(text, args.batch.unwrap_or(16), 128, args.seed, &device);
    let config = TrainingConfig::new(args.steps.unwrap_or(2000))
        .with_learning_rate(3e-3)
        .with_evaluate_every(250);
    let trainer = Trainer::new(args.applied_to(config, &device)?, &args.output, &device);
    let outcome = follow(&trainer, &task)?;
    println!("{}", task.write(&outcome.model, SAMPLE, args.seed)?);
    let model = args.save_dtype.of(outcome.model, &device)?;
    task.save(&model, &args.output)?;
    println!("{}", args.output.display());
    Ok(())
}

fn diffusion(args: &TrainArgs) -> Result<()> {
    let mnist = Mnist::load(&args.data("mnist")?)?;
    let device = super::open_device(&args.device)?;
    let task = Drawing::new(mnist, args.batch.unwrap_or(32), args.seed, &device);
    let config = TrainingConfig::new(args.steps.unwrap_or(1500))
        .with_learning_rate(2e-3)
        .with_evaluate_every(500);
    let trainer = Trainer::new(args.applied_to(config, &device)?, &args.output, &device);
    let outcome = follow(&trainer, &task)?;
    let digits: Vec<u8> = (0..ROWS).flat_map(|_| 0..10).collect();
    let hand = Hand {
        seed: args.seed,
        ..Hand::default()
    };
    let drawn = Drawing::draw(&outcome.model, &digits, hand)?;
    if let Some(reader) = &args.reader {
        draw::read(reader, drawn.clone(), &digits, &device)?;
    }
    draw::save(drawn, &args.output.join("digits.png"))?;
    let model = args.save_dtype.of(outcome.model, &device)?;
    model.save(&args.output)?;
    println!("{}", args.output.display());
    Ok(())
}

impl TrainArgs {
    fn data(&self, name: &str) -> Result<PathBuf> {
        let cached = || Some(cache_folder()?.join("data").join(name));
        let folder = self.data.clone().or_else(cached);
        folder.context("there is no cache folder; set ATTENTION_CACHE, or give `--data`")
    }

    fn applied_to(&self, config: TrainingConfig, device: &Device) -> Result<TrainingConfig> {
        let warmup = config.steps / 20;
        let rate = self.learning_rate.unwrap_or(config.learning_rate);
        let checkpoints = self.checkpoint_every.unwrap_or(config.checkpoint_every);
        Ok(config
            .with_warmup(warmup)
            .with_learning_rate(rate)
            .with_checkpoint_every(checkpoints)
            .with_dtype(self.dtype.on(device)?)
            .with_seed(self.seed))
    }
}

/// Trains with a bar on the terminal, and a line for each evaluation.
fn follow<T: Task>(trainer: &Trainer, task: &T) -> Result<Outcome<T::Model>> {
    let bar = super::progress(trainer.config().steps)?;
    let clock = Instant::now();
    let outcome = trainer.run(task, &mut |event| show(&bar, event))?;
    bar.finish_and_clear();
    println!(
        "{}; {:.0} s in this process",
        list(&outcome.metrics),
        clock.elapsed().as_secs_f64()
    );
    Ok(outcome)
}

fn show(bar: &ProgressBar, event: Event<'_>) {
    match event {
        Event::Resumed(step) => {
            bar.set_position(step as u64);
            bar.reset_eta();
            bar.suspend(|| println!("step {step}: resumed"));
        }
        Event::Step {
            step,
            loss,
            learning_rate,
        } => {
            bar.set_position(step as u64);
            bar.set_message(format!("loss {loss:.3}, rate {learning_rate:.1e}"));
        }
        Event::Evaluated(step, metrics) => {
            bar.suspend(|| println!("step {step}: {}", list(metrics)));
        }
        Event::Saved(_) => {}
    }
}

fn list(metrics: &[Metric]) -> String {
    let listed = metrics.iter().map(Metric::to_string);
    listed.collect::<Vec<_>>().join(", ")
}
