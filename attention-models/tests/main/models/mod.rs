//! The reference models: goldens, attention maps, and folders that must be refused.

mod attention_maps;
mod checkpoints;
mod clip;
mod decoders;
mod diffusion;
mod encoders;
mod gguf;
mod gguf_writer;
mod goldens;
mod seq2seq;
mod swin;
mod tokenizers;
mod vision_transformer;

use std::path::PathBuf;

/// A golden folder of the repository.
fn golden(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../tests/goldens/models")
        .join(name)
}
