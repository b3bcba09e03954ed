//! `GPTNeoXForCausalLM` (GPT-NeoX, Pythia): attention and MLP beside each other, a part of each
//! head rotated.

use super::super::{DecoderConfig, DecoderLayerConfig, FeedForwardConfig, Residual};
use super::Family;
use super::fields::{Fields, LayerType};
use crate::models::blocks::MlpConfig;
use crate::models::checkpoint::{
    CheckpointError, NameTable,
    Projection::{self, Key, Query, Value},
    Source::{self, Whole},
};

pub(super) const FAMILY: Family = Family {
    classes: &["GPTNeoXForCausalLM"],
    config,
    names: NameTable {
        prefixes: &["gpt_neox."],
        backbone: &[
            ("embedding", Whole("embed_in")),
            ("norm.Layer", Whole("final_layer_norm")),
            (
                "layers.{}.norm_attention.Layer",
                Whole("layers.{}.input_layernorm"),
            ),
            ("layers.{}.attention.query", fused(Query)),
            ("layers.{}.attention.key", fused(Key)),
            ("layers.{}.attention.value", fused(Value)),
            (
                "layers.{}.attention.output",
                Whole("layers.{}.attention.dense"),
            ),
            (
                "layers.{}.norm_mlp.Layer",
                Whole("layers.{}.post_attention_layernorm"),
            ),
            (
                "layers.{}.mlp.Plain.inner",
                Whole("layers.{}.mlp.dense_h_to_4h"),
            ),
            (
                "layers.{}.mlp.Plain.outer",
                Whole("layers.{}.mlp.dense_4h_to_h"),
            ),
        ],
        heads: &[("head", Whole("embed_out"))],
        ignored: &[
            "embed_out.weight",
            "layers.{}.attention.bias",
            "layers.{}.attention.masked_bias",
            "layers.{}.attention.rotary_emb.inv_freq",
        ],
    },
};

const fn fused(part: Projection) -> Source {
    Source::Heads {
        of: "layers.{}.attention.query_key_value",
        part,
    }
}

fn config(file: &Fields) -> Result<DecoderConfig, CheckpointError> {
    let bias = file.flag("attention_bias", true)?;
    let attention = file
        .attention()?
        .with_input_bias(bias)
        .with_output_bias(bias);
    let position = file.rotary(attention.head_dim(), LayerType::Full.name())?;
    let mlp = MlpConfig::new(file.hidden_size()?, file.need(&["intermediate_size"])?)
        .with_activation(file.activation()?);
    let norm = file.layer_norm(true)?;
    let residual = if file.flag("use_parallel_residual", true)? {
        Residual::Parallel
    } else {
        Residual::Sequential
    };
    let attention = attention.with_position(position);
    let layer = DecoderLayerConfig::new(attention, FeedForwardConfig::Plain(mlp), norm);
    let layers = vec![layer.with_residual(residual); file.layers()?];
    Ok(DecoderConfig::new(file.vocabulary()?, layers, norm)
        .with_tied_head(file.flag("tie_word_embeddings", false)?))
}
