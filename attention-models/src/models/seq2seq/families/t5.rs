//! `T5ForConditionalGeneration` of transformers, 1.1 and Flan-T5 among them.

use serde::Deserialize;

use super::super::{AttentionBias, Seq2SeqConfig, SequencePositions, StackConfig};
use super::Family;
use crate::models::blocks::{Activation, NormConfig};
use crate::models::checkpoint::{Checkpoint, CheckpointError, NameTable, Source::Whole, Weights};
use crate::models::encoder::NormPlacement;

pub(super) const FAMILY: Family = Family {
    classes: &["T5ForConditionalGeneration"],
    config,
    names: NameTable {
        prefixes: &[],
        backbone: &[
            ("embedding", Whole("shared")),
            (
                "encoder.relative.table",
                Whole("encoder.block.0.layer.0.SelfAttention.relative_attention_bias"),
            ),
            (
                "decoder.relative.table",
                Whole("decoder.block.0.layer.0.SelfAttention.relative_attention_bias"),
            ),
            ("encoder.norm.Rms", Whole("encoder.final_layer_norm")),
            ("decoder.norm.Rms", Whole("decoder.final_layer_norm")),
            (
                "encoder.layers.{}.attention.query",
                Whole("encoder.block.{}.layer.0.SelfAttention.q"),
            ),
            (
                "encoder.layers.{}.attention.key",
                Whole("encoder.block.{}.layer.0.SelfAttention.k"),
            ),
            (
                "encoder.layers.{}.attention.value",
                Whole("encoder.block.{}.layer.0.SelfAttention.v"),
            ),
            (
                "encoder.layers.{}.attention.output",
                Whole("encoder.block.{}.layer.0.SelfAttention.o"),
            ),
            (
                "encoder.layers.{}.norm_attention.Rms",
                Whole("encoder.block.{}.layer.0.layer_norm"),
            ),
            (
                "encoder.layers.{}.mlp.Plain.inner",
                Whole("encoder.block.{}.layer.1.DenseReluDense.wi"),
            ),
            (
                "encoder.layers.{}.mlp.Plain.outer",
                Whole("encoder.block.{}.layer.1.DenseReluDense.wo"),
            ),
            (
                "encoder.layers.{}.mlp.Gated.gate",
                Whole("encoder.block.{}.layer.1.DenseReluDense.wi_0"),
            ),
            (
                "encoder.layers.{}.mlp.Gated.inner",
                Whole("encoder.block.{}.layer.1.DenseReluDense.wi_1"),
            ),
            (
                "encoder.layers.{}.mlp.Gated.outer",
                Whole("encoder.block.{}.layer.1.DenseReluDense.wo"),
            ),
            (
                "encoder.layers.{}.norm_mlp.Rms",
                Whole("encoder.block.{}.layer.1.layer_norm"),
            ),
            (
                "decoder.layers.{}.attention.query",
                Whole("decoder.block.{}.layer.0.SelfAttention.q"),
            ),
            (
                "decoder.layers.{}.attention.key",
                Whole("decoder.block.{}.layer.0.SelfAttention.k"),
            ),
            (
                "decoder.layers.{}.attention.value",
                Whole("decoder.block.{}.layer.0.SelfAttention.v"),
            ),
            (
                "decoder.layers.{}.attention.output",
                Whole("decoder.block.{}.layer.0.SelfAttention.o"),
            ),
            (
                "decoder.layers.{}.norm_attention.Rms",
                Whole("decoder.block.{}.layer.0.layer_norm"),
            ),
            (
                "decoder.layers.{}.cross_attention.query",
                Whole("decoder.block.{}.layer.1.EncDecAttention.q"),
            ),
            (
                "decoder.layers.{}.cross_attention.key",
                Whole("decoder.block.{}.layer.1.EncDecAttention.k"),
            ),
            (
                "decoder.layers.{}.cross_attention.value",
                Whole("decoder.block.{}.layer.1.EncDecAttention.v"),
            ),
            (
                "decoder.layers.{}.cross_attention.output",
                Whole("decoder.block.{}.layer.1.EncDecAttention.o"),
            ),
            (
                "decoder.layers.{}.norm_cross.Rms",
                Whole("decoder.block.{}.layer.1.layer_norm"),
            ),
            (
                "decoder.layers.{}.mlp.Plain.inner",
                Whole("decoder.block.{}.layer.2.DenseReluDense.wi"),
            ),
            (
                "decoder.layers.{}.mlp.Plain.outer",
                Whole("decoder.block.{}.layer.2.DenseReluDense.wo"),
            ),
            (
                "decoder.layers.{}.mlp.Gated.gate",
                Whole("decoder.block.{}.layer.2.DenseReluDense.wi_0"),
            ),
            (
                "decoder.layers.{}.mlp.Gated.inner",
                Whole("decoder.block.{}.layer.2.DenseReluDense.wi_1"),
            ),
            (
                "decoder.layers.{}.mlp.Gated.outer",
                Whole("decoder.block.{}.layer.2.DenseReluDense.wo"),
            ),
            (
                "decoder.layers.{}.norm_mlp.Rms",
                Whole("decoder.block.{}.layer.2.layer_norm"),
            ),
            ("head", Whole("lm_head")),
        ],
        heads: &[],
        ignored: &[
            "encoder.embed_tokens.weight",
            "decoder.embed_tokens.weight",
            "lm_head.weight",
            "decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight",
        ],
    },
};

/// The fields that are read.
#[derive(Debug, Deserialize)]
struct File {
    vocab_size: usize,
    d_model: usize,
    d_kv: usize,
    d_ff: usize,
    num_layers: usize,
    num_decoder_layers: Option<usize>,
    num_heads: usize,
    relative_attention_num_buckets: usize,
    #[serde(default = "max_distance")]
    relative_attention_max_distance: usize,
    layer_norm_epsilon: f64,
    #[serde(default = "relu")]
    feed_forward_proj: String,
    tie_word_embeddings: Option<bool>,
    scale_decoder_outputs: Option<bool>,
}

fn max_distance() -> usize {
    128
}

fn relu() -> String {
    "relu".into()
}

impl File {
    /// `relu`, or `gated-gelu`, which means the GELU by `tanh`.
    fn activation(&self, checkpoint: &Checkpoint) -> Result<(Activation, bool), CheckpointError> {
        let (gated, name) = match self.feed_forward_proj.strip_prefix("gated-") {
            Some("gelu") => (true, "gelu_new"),
            Some(name) => (true, name),
            None => (false, self.feed_forward_proj.as_str()),
        };
        let activation = serde_json::from_value(name.into());
        let activation = activation
            .map_err(|error| checkpoint.invalid_config(format!("`feed_forward_proj`: {error}")))?;
        Ok((activation, gated))
    }
}

fn config(checkpoint: &Checkpoint, weights: &Weights) -> Result<Seq2SeqConfig, CheckpointError> {
    let file: File = checkpoint.config()?;
    let (activation, gated) = file.activation(checkpoint)?;
    let stack = |layers| StackConfig {
        layers,
        heads: file.num_heads,
        mlp_size: file.d_ff,
        max_positions: None,
    };
    // T5 1.1 has a head of its own, and says so in older folders by not tying it.
    let untied = file.tie_word_embeddings == Some(false) && weights.contains("lm_head.weight");
    let config = Seq2SeqConfig::new(
        file.vocab_size,
        file.d_model,
        stack(file.num_layers),
        stack(file.num_decoder_layers.unwrap_or(file.num_layers)),
    );
    Ok(config
        .with_head_dim(Some(file.d_kv))
        .with_positions(SequencePositions::Relative {
            buckets: file.relative_attention_num_buckets,
            max_distance: file.relative_attention_max_distance,
        })
        .with_scaled_embeddings(false)
        .with_norm(NormConfig::Rms {
            epsilon: file.layer_norm_epsilon,
            offset: 0.0,
        })
        .with_norm_placement(NormPlacement::Before)
        .with_final_norm(true)
        .with_attention_scale(Some(1.0))
        .with_attention_bias(AttentionBias::None)
        .with_mlp_bias(false)
        .with_activation(activation)
        .with_gated(gated)
        .with_tied_head(!untied)
        .with_scaled_output(file.scale_decoder_outputs.unwrap_or(!untied)))
}
