//! `cargo xtask demo`.

use std::{fs, process::ExitCode, time::Instant};

use anyhow::Result;
use clap::Args;

use crate::{build, models, process, setup};

/// What `cargo xtask demo` takes.
#[derive(Args)]
pub struct Demo {
    /// Where to compute: cpu, cubecl-cpu, vulkan, wgpu or auto
    #[arg(long, default_value = "cpu")]
    device: String,
}

impl Demo {
    /// From a photograph to a heat map: set-up, build, weights, picture; then what the models that come with the
    /// repository draw and write.
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

        let assets = process::workspace().join("assets");
        let digits = folder.join("digits.png");
        let mut draw = build::launch(&program, &ready);
        draw.args(["draw", "0123456789", "--device", &self.device]);
        draw.arg("--model").arg(assets.join("digits-unet"));
        draw.arg("--reader").arg(assets.join("digits-vit"));
        draw.arg("-o").arg(&digits);
        println!(
            "\nDigits by a diffusion UNet, read by a Vision Transformer, both trained with this library:"
        );
        process::stream(&mut draw)?;

        let mut write = build::launch(&program, &ready);
        write.args(["chat", "ROMEO:\n", "--plain", "--device", &self.device]);
        write.arg("--model").arg(assets.join("shakespeare-llama"));
        write.args(["--temperature", "0.8", "--max-tokens", "200"]);
        println!(
            "\nA play by a small Llama, trained with this library, character by character:\n\nROMEO:"
        );
        process::stream(&mut write)?;

        println!("\nThe photograph:  {}", photo.display());
        println!("Its attention:   {}", picture.display());
        println!("Drawn digits:    {}", digits.display());
        println!(
            "{:.1} s since the end of the build",
            built.elapsed().as_secs_f32()
        );
        Ok(ExitCode::SUCCESS)
    }
}
