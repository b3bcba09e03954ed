//! A Hugging Face folder: JSON configuration beside `model.safetensors`.

use std::{
    collections::{BTreeMap, HashMap},
    fs,
    path::Path,
};

use anyhow::{Context, Result, ensure};
use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use serde_json::Value;

/// A float32 tensor.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    pub shape: Vec<usize>,
    /// Row-major, little-endian.
    pub bytes: Vec<u8>,
}

/// What a converter makes of a package's file.
pub struct Checkpoint {
    /// File names and contents.
    pub configuration: Vec<(&'static str, Value)>,
    pub tensors: BTreeMap<String, Tensor>,
}

/// Writes all files into `folder`.
pub fn write(checkpoint: &Checkpoint, folder: &Path) -> Result<()> {
    for (name, value) in &checkpoint.configuration {
        fs::write(
            folder.join(name),
            serde_json::to_string_pretty(value)? + "\n",
        )?;
    }
    let views: Vec<(&String, TensorView)> = checkpoint
        .tensors
        .iter()
        .map(|(name, tensor)| {
            Ok((
                name,
                TensorView::new(Dtype::F32, tensor.shape.clone(), &tensor.bytes)?,
            ))
        })
        .collect::<Result<_>>()?;
    // Hugging Face's loader asks which framework wrote the file.
    let metadata = HashMap::from([("format".to_string(), "pt".to_string())]);
    safetensors::serialize_to_file(views, Some(metadata), &folder.join("model.safetensors"))?;
    Ok(())
}

/// Refuses a folder of another architecture and a weight file that is not whole.
pub fn check(folder: &Path, architecture: &str) -> Result<()> {
    let config = fs::read(folder.join("config.json"))?;
    let config: Value = serde_json::from_slice(&config).context("config.json is not JSON")?;
    let found = config["model_type"].as_str().unwrap_or("nothing");
    ensure!(
        found == architecture,
        "config.json: model_type is {found}, expected is {architecture}"
    );
    let weights = fs::read(folder.join("model.safetensors"))?;
    SafeTensors::deserialize(&weights)
        .context("model.safetensors is not a whole safetensors file")?;
    Ok(())
}
