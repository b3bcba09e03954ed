//! Llama and its relatives: the names and the configuration of Hugging Face's folder, out of
//! those of llama.cpp.

use std::collections::BTreeMap;

use burn::tensor::{DType, Shape, TensorData};
use burn_store::bridge;
use burn_store::burn_pack::{Error as StoreError, Tensor as StoredTensor};
use serde_json::json;

use super::blocks::{BlockType, type_name};
use super::file::{Gguf, TensorInfo};
use crate::models::checkpoint::view::View;
use crate::models::checkpoint::{CheckpointError, TensorProblem, Weights};

/// `general.architecture`, and what transformers calls the class.
const CLASSES: [(&str, &str); 3] = [
    ("llama", "LlamaForCausalLM"),
    ("qwen2", "Qwen2ForCausalLM"),
    ("qwen3", "Qwen3ForCausalLM"),
];

/// Names outside the layers.
const MODEL: [(&str, &str); 3] = [
    ("token_embd", "model.embed_tokens"),
    ("output_norm", "model.norm"),
    ("output", "lm_head"),
];

/// Names in `blk.N`, which become names in `model.layers.N`.
const LAYER: [(&str, &str); 11] = [
    ("attn_norm", "input_layernorm"),
    ("attn_q", "self_attn.q_proj"),
    ("attn_k", "self_attn.k_proj"),
    ("attn_v", "self_attn.v_proj"),
    ("attn_output", "self_attn.o_proj"),
    ("attn_q_norm", "self_attn.q_norm"),
    ("attn_k_norm", "self_attn.k_norm"),
    ("ffn_norm", "post_attention_layernorm"),
    ("ffn_gate", "mlp.gate_proj"),
    ("ffn_up", "mlp.up_proj"),
    ("ffn_down", "mlp.down_proj"),
];

/// What the rotations of each pair are slowed by, as llama.cpp stores Llama 3.1's scaling.
const ROTATION_FACTORS: &str = "rope_freqs.weight";

/// The `config.json` that Hugging Face's folder of the model would have.
pub(in crate::models::checkpoint) fn config(
    file: &Gguf,
) -> Result<serde_json::Value, CheckpointError> {
    let architecture = file.text("general.architecture")?;
    let Some((_, class)) = CLASSES.iter().find(|(name, _)| *name == architecture) else {
        return Err(CheckpointError::Architecture {
            path: file.path().to_path_buf(),
            found: format!("the architecture {architecture}"),
            accepted: CLASSES.map(|(name, _)| name).to_vec(),
        });
    };
    let key = |name: &str| format!("{architecture}.{name}");
    let count = |name: &str| file.count(&key(name));
    let count_or = |name: &str, default: usize| match file.value(&key(name)) {
        None => Ok(default),
        Some(_) => count(name),
    };
    let experts = count_or("expert_count", 0)?;
    if experts > 0 {
        return Err(file.invalid(format!(
            "`{}` is {experts}; accepted: 0, a model without experts",
            key("expert_count")
        )));
    }
    let (width, heads) = (count("embedding_length")?, count("attention.head_count")?);
    if heads == 0 || !width.is_multiple_of(heads) {
        return Err(file.invalid(format!("{heads} heads do not divide the width {width}")));
    }
    let theta = match file.value(&key("rope.freq_base")) {
        None => 10_000.0,
        Some(_) => file.number(&key("rope.freq_base"))?,
    };
    let vocabulary = match file.value(&key("vocab_size")) {
        Some(_) => count("vocab_size")?,
        None => file.list("tokenizer.ggml.tokens")?.len(),
    };
    let tied = file
        .tensors()
        .iter()
        .all(|tensor| tensor.name != "output.weight");
    let token = |name: &str| file.count(&format!("tokenizer.ggml.{name}_token_id")).ok();
    Ok(json!({
        "architectures": [class],
        "model_type": architecture,
        "attention_bias": false,
        "bos_token_id": token("bos"),
        "dtype": "float32",
        "eos_token_id": token("eos"),
        "head_dim": count_or("attention.key_length", width / heads)?,
        "hidden_act": "silu",
        "hidden_size": width,
        "intermediate_size": count("feed_forward_length")?,
        "max_position_embeddings": count("context_length")?,
        "mlp_bias": false,
        "num_attention_heads": heads,
        "num_hidden_layers": count("block_count")?,
        "num_key_value_heads": count_or("attention.head_count_kv", heads)?,
        "pad_token_id": token("padding"),
        "rms_norm_eps": epsilon(file.number(&key("attention.layer_norm_rms_epsilon"))?),
        "rope_parameters": rope(file, architecture, theta)?,
        "rope_theta": theta,
        "tie_word_embeddings": tied,
        "use_sliding_window": false,
        "vocab_size": vocabulary,
    }))
}

/// The file rounds 1e-5 to single precision; its shortest decimal is what was meant.
fn epsilon(stored: f64) -> f64 {
    (stored as f32).to_string().parse().unwrap_or(stored)
}

fn rope(file: &Gguf, architecture: &str, theta: f64) -> Result<serde_json::Value, CheckpointError> {
    let key = |name: &str| format!("{architecture}.rope.scaling.{name}");
    let kind = match file.value(&key("type")) {
        None => "none",
        Some(_) => file.text(&key("type"))?,
    };
    let factors = file
        .tensors()
        .iter()
        .find(|info| info.name == ROTATION_FACTORS);
    match (kind, factors) {
        ("none", Some(info)) => {
            let factors = values(file, info).map_err(|reason| file.invalid(reason))?;
            Ok(json!({
                "rope_type": "longrope",
                "rope_theta": theta,
                "original_max_position_embeddings": file.count(&format!("{architecture}.context_length"))?,
                "short_factor": factors,
                "long_factor": factors,
                "attention_factor": 1.0,
            }))
        }
        (other, Some(_)) => Err(file.invalid(format!(
            "`{}` is {other} beside `{ROTATION_FACTORS}`; accepted: none",
            key("type")
        ))),
        ("none", None) => Ok(json!({ "rope_type": "default", "rope_theta": theta })),
        ("linear", None) => Ok(json!({
            "rope_type": "linear",
            "rope_theta": theta,
            "factor": file.number(&key("factor"))?,
        })),
        ("yarn", None) => Ok(json!({
            "rope_type": "yarn",
            "rope_theta": theta,
            "factor": file.number(&key("factor"))?,
            "original_max_position_embeddings": file.count(&key("original_context_length"))?,
        })),
        (other, None) => Err(file.invalid(format!(
            "`{}` is {other}; accepted: none, linear, yarn",
            key("type")
        ))),
    }
}

/// The file's tensors under Hugging Face's names, dequantised when a module takes them.
pub(in crate::models::checkpoint) fn weights(file: &Gguf) -> Result<Weights, CheckpointError> {
    // Only llama's query and key rows are stored for pairs of neighbours, which it rotates.
    let heads = if file.text("general.architecture")? == "llama" {
        let count = |name: &str| file.count(&format!("llama.attention.{name}"));
        let queries = count("head_count")?;
        Some((queries, count("head_count_kv").unwrap_or(queries)))
    } else {
        None
    };
    let mut tensors = BTreeMap::new();
    let mut problems = Vec::new();
    let parameters = file.tensors().iter();
    for info in parameters.filter(|info| info.name != ROTATION_FACTORS) {
        let name = hugging_face_name(&info.name);
        match stored(file, info, &name, heads) {
            Ok(tensor) => {
                tensors.insert(name, tensor);
            }
            Err(reason) => problems.push(TensorProblem::Data {
                name: info.name.clone(),
                reason,
            }),
        }
    }
    if problems.is_empty() {
        Ok(Weights::new(file.path().to_path_buf(), tensors))
    } else {
        Err(CheckpointError::Tensors {
            path: file.path().to_path_buf(),
            problems,
        })
    }
}

/// Hugging Face's name; a name that is not known stays.
fn hugging_face_name(name: &str) -> String {
    let known = || {
        let (module, parameter) = name.rsplit_once('.')?;
        let renamed = |names: &[(&str, &'static str)], module: &str| {
            let found = names.iter().find(|(from, _)| *from == module);
            found.map(|(_, to)| *to)
        };
        match module.strip_prefix("blk.") {
            None => Some(format!("{}.{parameter}", renamed(&MODEL, module)?)),
            Some(rest) => {
                let (layer, module) = rest.split_once('.')?;
                let module = renamed(&LAYER, module)?;
                Some(format!("model.layers.{layer}.{module}.{parameter}"))
            }
        }
    };
    known().unwrap_or_else(|| name.to_string())
}

/// How a tensor is stored, and in how many bytes.
fn layout(info: &TensorInfo) -> Result<(BlockType, usize), String> {
    let Some(kind) = BlockType::of(info.kind) else {
        return Err(format!(
            "its type is {}; accepted: {}",
            type_name(info.kind),
            BlockType::ACCEPTED
        ));
    };
    let bytes = kind
        .bytes(&info.shape)
        .ok_or("its rows are not whole blocks")?;
    Ok((kind, bytes))
}

/// The values of a small tensor.
fn values(file: &Gguf, info: &TensorInfo) -> Result<Vec<f32>, String> {
    let (kind, bytes) = layout(info)?;
    let stored = info.read(file.path(), bytes);
    let stored = stored.map_err(|error| format!("`{}`: {error}", info.name))?;
    Ok(kind.dequantise(&stored))
}

/// One tensor, as `f32`.
fn stored(
    file: &Gguf,
    info: &TensorInfo,
    name: &str,
    heads: Option<(usize, usize)>,
) -> Result<StoredTensor, String> {
    let (kind, bytes) = layout(info)?;
    let rotated = match heads {
        Some((queries, _)) if name.contains(".q_proj.") => Some(queries),
        Some((_, keys)) if name.contains(".k_proj.") => Some(keys),
        _ => None,
    };
    let view = match rotated {
        Some(heads) => Some(View::halves_of_pairs(&info.shape, heads)?),
        None => None,
    };
    let (path, info) = (file.path().to_path_buf(), info.clone());
    let shape = Shape::from(info.shape.clone());
    Ok(bridge::deferred(
        name.to_string(),
        DType::F32,
        shape.clone(),
        None,
        move || {
            let stored = info
                .read(&path, bytes)
                .map_err(|error| StoreError::IoError(error.to_string()))?;
            let values = TensorData::new(kind.dequantise(&stored), shape.clone());
            Ok(match &view {
                None => values,
                Some(view) => {
                    let bytes = view.gather(values.as_bytes(), size_of::<f32>());
                    TensorData::from_bytes_vec(bytes, shape.clone(), DType::F32)
                }
            })
        },
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_hugging_faces_and_unknown_ones_stay() {
        let name = hugging_face_name;
        assert_eq!(name("token_embd.weight"), "model.embed_tokens.weight");
        assert_eq!(name("output.weight"), "lm_head.weight");
        assert_eq!(
            name("blk.11.attn_k.bias"),
            "model.layers.11.self_attn.k_proj.bias"
        );
        assert_eq!(name("rope_freqs.weight"), "rope_freqs.weight");
        assert_eq!(
            name("blk.0.ffn_gate_exps.weight"),
            "blk.0.ffn_gate_exps.weight"
        );
    }

    #[test]
    fn an_epsilon_is_the_decimal_that_was_meant() {
        assert_eq!(epsilon(f64::from(1e-5f32)), 1e-5);
        assert_eq!(epsilon(f64::from(1e-6f32)), 1e-6);
    }
}
