//! `cargo xtask demo`.

use std::{fs, process::ExitCode, time::Instant};

use anyhow::Result;
use clap::Args;

use crate::{build, models, process, setup};

/// What `cargo xtask demo` takes.
#[derive(Args)]
pub struct Demo {
    /// Where to compute: cpu, vulkan, wgpu or auto
    #[arg(long, default_value = "cpu")]
    device: String,
}

impl Demo {
    /// From a photograph to a heat map: set-up, build, weights, picture.
    pub fn run(&self) -> Result<ExitCode> {
        let ready = setup::ensure()?;
        let program = build::program("attention")?;
        let built = Instant::now();
        let model = models::fetch_default("dinov2_s14")?;
        let photo = models::photo()?;
        let folder = build::target_folder()?.join("demo");
        fs::create_dir_all(&folder)?;
        let picture = folder.join("attention.png");

        let mut see = build::launch(&program, &ready);
        see.arg("see").arg(&photo).arg("--model").arg(&model);
        see.args(["--head", "all", "--device", &self.device])
            .arg("-o")
            .arg(&picture);
        process::stream(&mut see)?;
        println!("\nThe photograph:  {}", photo.display());
        println!("Its attention:   {}", picture.display());
        println!(
            "{:.1} s since the end of the build",
            built.elapsed().as_secs_f32()
        );
        Ok(ExitCode::SUCCESS)
    }
}
