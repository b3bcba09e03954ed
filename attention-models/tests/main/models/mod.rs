//! The reference models: goldens, attention maps, and folders that must be refused.

mod attention_maps;
mod checkpoints;
mod clip;
mod decoders;
mod diffusion;
mod editing;
mod encoders;
mod generation;
mod gguf;
mod gguf_writer;
mod goldens;
mod half;
mod saving;
mod seq2seq;
mod shards;
mod swin;
mod tokenizers;
mod vision_transformer;

use std::path::PathBuf;

use attention_models::{cli::verify_models::check_model_golden, device::DeviceKind};

use crate::support::devices;

/// One of each family is compared on every device, the others on `cpu`: Burn tunes its own kernels at their first use,
/// which takes software drivers minutes. `attention verify --goldens` compares all of them on any device.
const EVERYWHERE: [&str; 8] = [
    "vit",
    "swin",
    "bert",
    "gpt2",
    "t5",
    "unet2d_condition",
    "dit",
    "sched_ddim",
];

/// A golden folder of the repository.
fn golden(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../tests/goldens/models")
        .join(name)
}

/// Holds every output of a golden against what the model in its folder computes.
fn passes(name: &str, outputs: &[&str]) {
    let devices = if EVERYWHERE.contains(&name) {
        devices()
    } else {
        vec![DeviceKind::Cpu.open().expect("it always is there")]
    };
    for device in devices {
        let folder = golden(name);
        let file = folder.join("io.safetensors");
        let rows = check_model_golden(name, &file, &folder, &device).unwrap();
        let names: Vec<_> = rows.iter().map(|row| row.name.as_str()).collect();
        assert_eq!(names, outputs);
        for row in rows {
            assert!(row.passes(), "{name} on {device:?}: {row:?}");
        }
    }
}
