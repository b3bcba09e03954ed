//! `ModernBertModel` of transformers; the head of its training is left out.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::super::{EncoderConfig, LocalLayers, NormPlacement, Positions};
use super::Family;
use crate::models::blocks::{Activation, RotaryPairs};
use crate::models::checkpoint::{
    Checkpoint, CheckpointError, NameTable,
    Source::{self, Rows, Whole},
    Weights,
};

pub(super) const FAMILY: Family = Family {
    classes: &["ModernBertModel", "ModernBertForMaskedLM"],
    config,
    names: NameTable {
        prefixes: &["model."],
        backbone: &[
            ("embeddings.word", Whole("embeddings.tok_embeddings")),
            ("embeddings.norm", Whole("embeddings.norm")),
            (
                "layers.{}.attention.query",
                part("layers.{}.attn.Wqkv", 0, 3),
            ),
            ("layers.{}.attention.key", part("layers.{}.attn.Wqkv", 1, 3)),
            (
                "layers.{}.attention.value",
                part("layers.{}.attn.Wqkv", 2, 3),
            ),
            ("layers.{}.attention.output", Whole("layers.{}.attn.Wo")),
            ("layers.{}.norm_attention", Whole("layers.{}.attn_norm")),
            ("layers.{}.mlp.Gated.gate", part("layers.{}.mlp.Wi", 0, 2)),
            ("layers.{}.mlp.Gated.inner", part("layers.{}.mlp.Wi", 1, 2)),
            ("layers.{}.mlp.Gated.outer", Whole("layers.{}.mlp.Wo")),
            ("layers.{}.norm_mlp", Whole("layers.{}.mlp_norm")),
            ("norm", Whole("final_norm")),
        ],
        heads: &[],
        ignored: &["head.*", "decoder.*"],
    },
};

const fn part(of: &'static str, part: usize, parts: usize) -> Source {
    Rows { of, part, parts }
}

/// The fields that are read, with ModernBERT's defaults.
#[derive(Debug, Deserialize)]
struct File {
    vocab_size: usize,
    max_position_embeddings: usize,
    hidden_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    intermediate_size: usize,
    #[serde(default)]
    hidden_activation: Activation,
    norm_eps: f64,
    #[serde(default)]
    norm_bias: bool,
    #[serde(default)]
    attention_bias: bool,
    #[serde(default)]
    mlp_bias: bool,
    local_attention: usize,
    layer_types: Option<Vec<String>>,
    #[serde(default = "three")]
    global_attn_every_n_layers: usize,
    rope_parameters: Option<BTreeMap<String, Rope>>,
    #[serde(default = "global_theta")]
    global_rope_theta: f64,
    #[serde(default = "local_theta")]
    local_rope_theta: f64,
}

#[derive(Debug, Deserialize)]
struct Rope {
    rope_theta: Option<f64>,
}

fn three() -> usize {
    3
}

fn global_theta() -> f64 {
    160_000.0
}

fn local_theta() -> f64 {
    10_000.0
}

impl File {
    fn local_layers(&self) -> Vec<bool> {
        match &self.layer_types {
            Some(types) => types
                .iter()
                .map(|kind| kind == "sliding_attention")
                .collect(),
            None => (0..self.num_hidden_layers)
                .map(|layer| !layer.is_multiple_of(self.global_attn_every_n_layers.max(1)))
                .collect(),
        }
    }

    fn theta(&self, kind: &str, otherwise: f64) -> f64 {
        let rope = self.rope_parameters.as_ref();
        let rope = rope.and_then(|kinds| kinds.get(kind));
        rope.and_then(|rope| rope.rope_theta).unwrap_or(otherwise)
    }
}

fn config(checkpoint: &Checkpoint, _weights: &Weights) -> Result<EncoderConfig, CheckpointError> {
    let file: File = checkpoint.config()?;
    let config = EncoderConfig::new(
        file.vocab_size,
        file.max_position_embeddings,
        file.hidden_size,
        file.num_hidden_layers,
        file.num_attention_heads,
        file.intermediate_size,
    );
    Ok(config
        .with_positions(Positions::Rotary {
            pairs: RotaryPairs::Halves,
            theta: file.theta("full_attention", file.global_rope_theta),
        })
        .with_local(Some(LocalLayers {
            layers: file.local_layers(),
            reach: file.local_attention / 2,
            theta: file.theta("sliding_attention", file.local_rope_theta),
        }))
        .with_norm_placement(NormPlacement::Before)
        .with_first_norm(false)
        .with_final_norm(true)
        .with_norm_bias(file.norm_bias)
        .with_norm_epsilon(file.norm_eps)
        .with_attention_bias(file.attention_bias)
        .with_mlp_bias(file.mlp_bias)
        .with_gated(true)
        .with_activation(file.hidden_activation))
}
