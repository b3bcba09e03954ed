//! The `attention` command line.

pub mod bench;
mod chat;
mod classify;
mod devices;
mod draw;
mod embed;
mod heatmap;
mod imagine;
mod mask;
mod photo;
mod precision;
mod roofline;
mod see;
mod table;
mod terrain;
mod train;
mod translate;
pub mod verify;
pub mod verify_models;

use std::process::ExitCode;

use anyhow::Result;
use burn::tensor::Device;
use clap::{Parser, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};

use crate::device;

#[derive(Parser)]
#[command(
    name = "attention",
    version,
    about = "Attention for Burn: look at it, verify it, measure it"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// List the devices that are compiled in and found, and what each offers
    Devices,
    See(see::SeeArgs),
    Chat(chat::ChatArgs),
    Classify(classify::ClassifyArgs),
    Embed(embed::EmbedArgs),
    Translate(translate::TranslateArgs),
    Train(train::TrainArgs),
    Mask(mask::MaskArgs),
    Verify(verify::VerifyArgs),
    Bench(bench::BenchArgs),
    Roofline(roofline::RooflineArgs),
    Imagine(imagine::ImagineArgs),
    Terrain(terrain::TerrainArgs),
    Draw(draw::DrawArgs),
}

/// Runs the program with the arguments of the process.
///
/// Exit code 1 when something was refused or a check failed, 2 when the arguments make no sense.
pub fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Devices => devices::run(),
        Command::See(args) => see::run(args).map(|()| ExitCode::SUCCESS),
        Command::Chat(args) => chat::run(&args).map(|()| ExitCode::SUCCESS),
        Command::Classify(args) => classify::run(&args).map(|()| ExitCode::SUCCESS),
        Command::Embed(args) => embed::run(&args).map(|()| ExitCode::SUCCESS),
        Command::Translate(args) => translate::run(&args).map(|()| ExitCode::SUCCESS),
        Command::Train(args) => train::run(&args).map(|()| ExitCode::SUCCESS),
        Command::Mask(args) => mask::run(&args).map(|()| ExitCode::SUCCESS),
        Command::Verify(args) => verify::run(&args),
        Command::Roofline(args) => roofline::run(&args).map(|()| ExitCode::SUCCESS),
        Command::Imagine(args) => imagine::run(args).map(|()| ExitCode::SUCCESS),
        Command::Terrain(args) => terrain::run(args).map(|()| ExitCode::SUCCESS),
        Command::Draw(args) => draw::run(&args).map(|()| ExitCode::SUCCESS),
        Command::Bench(args) => bench::run(&args).map(|()| ExitCode::SUCCESS),
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}

/// The device that `--device NAME` means.
fn open_device(name: &str) -> Result<Device> {
    Ok(device::by_name(name)?.open()?)
}

/// A bar over `length` steps, with the name of the current one.
fn progress(length: usize) -> Result<ProgressBar> {
    let style = ProgressStyle::with_template("{pos}/{len} {wide_bar} {msg}")?;
    Ok(ProgressBar::new(length as u64).with_style(style))
}
