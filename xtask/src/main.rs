//! `cargo xtask`: what a newcomer and the CI run around the build.

mod bench;
mod build;
mod cache;
mod data;
mod demo;
mod lint;
mod matrix;
mod models;
mod package;
mod process;
mod roofline;
mod setup;
mod startup;
mod test;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(
    name = "cargo xtask",
    about = "Set-up, demo, tests, measurements and models"
)]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Make the CPU runtime buildable and a software Vulkan device available
    Setup {
        /// Only say what is there and what is missing
        #[arg(long)]
        check: bool,
    },
    /// Show DINOv2's attention over a real photograph
    Demo(demo::Demo),
    /// Run every test on every runtime that this machine can execute
    Test {
        /// Passed on to `cargo test --workspace`
        #[arg(last = true)]
        args: Vec<String>,
    },
    /// Check formatting, clippy and the documentation
    Lint,
    /// Lower every kernel for every GPU and compile it by the vendors' compilers, without a GPU
    Matrix(matrix::Matrix),
    /// Measure attention beside its peers: Burn's own, torch's, onnxruntime's
    Bench(bench::Bench),
    /// Predict the time of attention on GPUs that are not at hand
    Roofline(roofline::Roofline),
    /// Measure how long a process waits for each kernel to be compiled
    Startup(startup::Startup),
    /// List or fetch pretrained models
    #[command(subcommand)]
    Models(models::Models),
    /// List or fetch data to train on
    #[command(subcommand)]
    Data(data::Data),
}

fn main() -> ExitCode {
    match run(Cli::parse().task) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(task: Task) -> Result<ExitCode> {
    match task {
        Task::Setup { check: true } => setup::check(),
        Task::Setup { check: false } => setup::ensure().map(|_| ExitCode::SUCCESS),
        Task::Demo(demo) => demo.run(),
        Task::Test { args } => test::run(&args),
        Task::Lint => lint::run(),
        Task::Matrix(matrix) => matrix.run(),
        Task::Bench(bench) => bench.run(),
        Task::Roofline(roofline) => roofline.run(),
        Task::Startup(startup) => startup.run(),
        Task::Models(command) => command.run(),
        Task::Data(command) => command.run(),
    }
}
