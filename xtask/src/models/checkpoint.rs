//! A Hugging Face folder: JSON configuration beside `model.safetensors`.

use std::{
    collections::{BTreeMap, HashMap},
    fs,
    io::Read,
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
pub fn check(folder: &Path, files: &[&str], architecture: &str) -> Result<()> {
    if let Some(file) = files.iter().find(|file| file.ends_with(".gguf")) {
        return check_gguf(&folder.join(file), architecture);
    }
    let config = fs::read(folder.join("config.json"))?;
    let config: Value = serde_json::from_slice(&config).context("config.json is not JSON")?;
    let named = ["model_type", "architecture"].map(|field| config[field].as_str());
    let found = named.into_iter().flatten().next().unwrap_or("nothing");
    ensure!(
        found.starts_with(architecture),
        "config.json: model_type is {found}, expected is {architecture}"
    );
    let weights = fs::read(folder.join("model.safetensors"))?;
    SafeTensors::deserialize(&weights)
        .context("model.safetensors is not a whole safetensors file")?;
    Ok(())
}

/// A GGUF file's metadata begin with its architecture; whether it is whole its reader says.
fn check_gguf(file: &Path, architecture: &str) -> Result<()> {
    const START: usize = 256;
    let mut start = Vec::new();
    fs::File::open(file)?
        .take(START as u64)
        .read_to_end(&mut start)?;
    let mut named = (architecture.len() as u64).to_le_bytes().to_vec();
    named.extend(architecture.as_bytes());
    let names = |bytes: &[u8]| bytes == named;
    ensure!(
        start.starts_with(b"GGUF") && start.windows(named.len()).any(names),
        "{} is not a GGUF file of the architecture {architecture}",
        file.file_name().unwrap_or_default().display()
    );
    Ok(())
}
