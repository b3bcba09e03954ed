//! From rxnmapper's PyTorch file (an ALBERT that was trained to fill in reactions) to Hugging Face's `AlbertModel`.

use std::io::Write;

use anyhow::{Context, Result, ensure};
use pytorch_reader::{DType, PytorchReader};
use serde_json::{Value, json};

use super::checkpoint::{Checkpoint, Tensor};

/// What stands before the names of the encoder; the rest is the head of its training.
const PREFIX: &str = "albert.";
/// Tensors of the encoder.
const TENSORS: usize = 25;

/// Leaves out the head of the training, of which the attention maps need nothing.
pub fn convert(bytes: &[u8]) -> Result<Checkpoint> {
    // Only files can be read in the format of PyTorch 1.5.
    let mut file = tempfile::NamedTempFile::new()?;
    file.write_all(bytes)?;
    let reader = PytorchReader::new(file.path()).context("not a whole PyTorch file")?;
    let tensors = reader
        .tensors()
        .iter()
        .filter_map(|(name, tensor)| Some((name.strip_prefix(PREFIX)?.to_string(), tensor)))
        .map(|(name, tensor)| {
            ensure!(
                tensor.dtype() == DType::F32,
                "{name} is {:?}, expected is F32",
                tensor.dtype()
            );
            let shape = tensor.shape().to_vec();
            let bytes = tensor.read().with_context(|| name.clone())?;
            Ok((name, Tensor { shape, bytes }))
        })
        .collect::<Result<std::collections::BTreeMap<_, _>>>()?;
    ensure!(
        tensors.len() == TENSORS,
        "{} tensors of the encoder are found, expected are {TENSORS}",
        tensors.len()
    );
    Ok(Checkpoint {
        configuration: vec![("config.json", config())],
        tensors,
    })
}

/// As the package's file, for the encoder alone.
fn config() -> Value {
    json!({
        "architectures": ["AlbertModel"],
        "model_type": "albert",
        "attention_probs_dropout_prob": 0.1,
        "bos_token_id": 0,
        "classifier_dropout_prob": 0.1,
        "dtype": "float32",
        "embedding_size": 128,
        "eos_token_id": 0,
        "hidden_act": "gelu",
        "hidden_dropout_prob": 0.1,
        "hidden_size": 256,
        "initializer_range": 0.02,
        "inner_group_num": 1,
        "intermediate_size": 512,
        "layer_norm_eps": 1e-12,
        "max_position_embeddings": 512,
        "num_attention_heads": 8,
        "num_hidden_groups": 1,
        "num_hidden_layers": 12,
        "pad_token_id": 0,
        "position_embedding_type": "absolute",
        "type_vocab_size": 2,
        "vocab_size": 591
    })
}
