//! `BartForConditionalGeneration` of transformers, and the fields and names that Marian and Whisper share with it.

use serde::Deserialize;

use super::super::{Seq2SeqConfig, SequencePositions, StackConfig};
use super::Family;
use crate::models::blocks::Activation;
use crate::models::checkpoint::{
    Checkpoint, CheckpointError, NameTable,
    Source::{self, Whole},
    Weights,
};

pub(super) const FAMILY: Family = Family {
    classes: &["BartForConditionalGeneration"],
    config,
    names: NameTable {
        prefixes: &["model."],
        backbone: &BACKBONE,
        heads: &[("logits_bias", Whole("final_logits_bias"))],
        ignored: &[
            "encoder.embed_tokens.weight",
            "decoder.embed_tokens.weight",
            "lm_head.weight",
        ],
    },
};

/// The names of all three.
pub(super) const BACKBONE: [(&str, Source); 30] = [
    ("embedding", Whole("shared")),
    ("embedding", Whole("decoder.embed_tokens")),
    ("audio", Whole("encoder")),
    ("encoder.positions", Whole("encoder.embed_positions")),
    ("decoder.positions", Whole("decoder.embed_positions")),
    (
        "encoder.embedding_norm.Layer",
        Whole("encoder.layernorm_embedding"),
    ),
    (
        "decoder.embedding_norm.Layer",
        Whole("decoder.layernorm_embedding"),
    ),
    ("encoder.norm.Layer", Whole("encoder.layer_norm")),
    ("decoder.norm.Layer", Whole("decoder.layer_norm")),
    (
        "encoder.layers.{}.attention.query",
        Whole("encoder.layers.{}.self_attn.q_proj"),
    ),
    (
        "encoder.layers.{}.attention.key",
        Whole("encoder.layers.{}.self_attn.k_proj"),
    ),
    (
        "encoder.layers.{}.attention.value",
        Whole("encoder.layers.{}.self_attn.v_proj"),
    ),
    (
        "encoder.layers.{}.attention.output",
        Whole("encoder.layers.{}.self_attn.out_proj"),
    ),
    (
        "encoder.layers.{}.norm_attention.Layer",
        Whole("encoder.layers.{}.self_attn_layer_norm"),
    ),
    (
        "encoder.layers.{}.mlp.Plain.inner",
        Whole("encoder.layers.{}.fc1"),
    ),
    (
        "encoder.layers.{}.mlp.Plain.outer",
        Whole("encoder.layers.{}.fc2"),
    ),
    (
        "encoder.layers.{}.norm_mlp.Layer",
        Whole("encoder.layers.{}.final_layer_norm"),
    ),
    (
        "decoder.layers.{}.attention.query",
        Whole("decoder.layers.{}.self_attn.q_proj"),
    ),
    (
        "decoder.layers.{}.attention.key",
        Whole("decoder.layers.{}.self_attn.k_proj"),
    ),
    (
        "decoder.layers.{}.attention.value",
        Whole("decoder.layers.{}.self_attn.v_proj"),
    ),
    (
        "decoder.layers.{}.attention.output",
        Whole("decoder.layers.{}.self_attn.out_proj"),
    ),
    (
        "decoder.layers.{}.norm_attention.Layer",
        Whole("decoder.layers.{}.self_attn_layer_norm"),
    ),
    (
        "decoder.layers.{}.cross_attention.query",
        Whole("decoder.layers.{}.encoder_attn.q_proj"),
    ),
    (
        "decoder.layers.{}.cross_attention.key",
        Whole("decoder.layers.{}.encoder_attn.k_proj"),
    ),
    (
        "decoder.layers.{}.cross_attention.value",
        Whole("decoder.layers.{}.encoder_attn.v_proj"),
    ),
    (
        "decoder.layers.{}.cross_attention.output",
        Whole("decoder.layers.{}.encoder_attn.out_proj"),
    ),
    (
        "decoder.layers.{}.norm_cross.Layer",
        Whole("decoder.layers.{}.encoder_attn_layer_norm"),
    ),
    (
        "decoder.layers.{}.mlp.Plain.inner",
        Whole("decoder.layers.{}.fc1"),
    ),
    (
        "decoder.layers.{}.mlp.Plain.outer",
        Whole("decoder.layers.{}.fc2"),
    ),
    (
        "decoder.layers.{}.norm_mlp.Layer",
        Whole("decoder.layers.{}.final_layer_norm"),
    ),
];

/// The fields that are read.
#[derive(Debug, Deserialize)]
pub(super) struct File {
    pub vocab_size: usize,
    pub d_model: usize,
    pub encoder_layers: usize,
    pub encoder_attention_heads: usize,
    pub encoder_ffn_dim: usize,
    pub decoder_layers: usize,
    pub decoder_attention_heads: usize,
    pub decoder_ffn_dim: usize,
    pub activation_function: Activation,
    #[serde(default)]
    pub scale_embedding: bool,
    pub max_position_embeddings: Option<usize>,
}

impl File {
    /// The sizes that all three share; sequences are at most so long.
    pub fn sizes(&self, source: Option<usize>, target: Option<usize>) -> Seq2SeqConfig {
        let encoder = StackConfig {
            layers: self.encoder_layers,
            heads: self.encoder_attention_heads,
            mlp_size: self.encoder_ffn_dim,
            max_positions: source,
        };
        let decoder = StackConfig {
            layers: self.decoder_layers,
            heads: self.decoder_attention_heads,
            mlp_size: self.decoder_ffn_dim,
            max_positions: target,
        };
        Seq2SeqConfig::new(self.vocab_size, self.d_model, encoder, decoder)
            .with_activation(self.activation_function)
            .with_scaled_embeddings(self.scale_embedding)
    }
}

fn config(checkpoint: &Checkpoint, weights: &Weights) -> Result<Seq2SeqConfig, CheckpointError> {
    let file: File = checkpoint.config()?;
    let positions = Some(file.max_position_embeddings.unwrap_or(1024));
    Ok(file
        .sizes(positions, positions)
        .with_positions(SequencePositions::Learned { first: 2 })
        .with_embedding_norm(true)
        .with_logits_bias(weights.contains("final_logits_bias")))
}
