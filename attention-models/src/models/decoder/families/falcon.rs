//! `FalconForCausalLM`: one key head for all queries, or a few; attention and MLP beside each other.

use super::super::{DecoderConfig, DecoderLayerConfig, FeedForwardConfig, Residual};
use super::Family;
use super::fields::{Fields, LayerType};
use crate::models::blocks::{Activation, MlpConfig};
use crate::models::checkpoint::{
    CheckpointError, NameTable,
    Projection::{self, Key, Query, Value},
    Source::{self, Whole},
};

pub(super) const FAMILY: Family = Family {
    classes: &["FalconForCausalLM"],
    config,
    names: NameTable {
        prefixes: &["transformer."],
        backbone: &[
            ("embedding", Whole("word_embeddings")),
            ("norm.Layer", Whole("ln_f")),
            (
                "layers.{}.norm_attention.Layer",
                Whole("h.{}.input_layernorm"),
            ),
            ("layers.{}.norm_attention.Layer", Whole("h.{}.ln_attn")),
            ("layers.{}.attention.query", fused(Query)),
            ("layers.{}.attention.key", fused(Key)),
            ("layers.{}.attention.value", fused(Value)),
            (
                "layers.{}.attention.output",
                Whole("h.{}.self_attention.dense"),
            ),
            (
                "layers.{}.norm_mlp.Layer",
                Whole("h.{}.post_attention_layernorm"),
            ),
            ("layers.{}.norm_mlp.Layer", Whole("h.{}.ln_mlp")),
            ("layers.{}.mlp.Plain.inner", Whole("h.{}.mlp.dense_h_to_4h")),
            ("layers.{}.mlp.Plain.outer", Whole("h.{}.mlp.dense_4h_to_h")),
        ],
        heads: &[("head", Whole("lm_head"))],
        ignored: &["lm_head.weight", "h.{}.self_attention.rotary_emb.inv_freq"],
    },
};

const fn fused(part: Projection) -> Source {
    Source::Heads {
        of: "h.{}.self_attention.query_key_value",
        part,
    }
}

fn config(file: &Fields) -> Result<DecoderConfig, CheckpointError> {
    file.expect("alibi", false)?;
    let bias = file.flag("bias", false)?;
    let newer = file.flag("new_decoder_architecture", false)?;
    let attention = file.attention()?;
    let kv_heads = match (newer, file.flag("multi_query", true)?) {
        (true, _) => file.find(&["num_kv_heads"])?,
        (false, true) => Some(1),
        (false, false) => None,
    };
    let position = file.rotary(attention.head_dim(), LayerType::Full.name())?;
    let attention = attention
        .with_kv_heads(kv_heads)
        .with_position(position)
        .with_input_bias(bias)
        .with_output_bias(bias);
    let width = file.hidden_size()?;
    let inner = file.find(&["ffn_hidden_size"])?.unwrap_or(4 * width);
    let mlp = MlpConfig::new(width, inner)
        .with_bias(bias)
        .with_activation(file.find(&["activation"])?.unwrap_or(Activation::Gelu));
    let one_norm = !newer || file.find(&["num_ln_in_parallel_attn"])? == Some(1);
    let residual = match (newer || file.flag("parallel_attn", true)?, one_norm) {
        (true, true) => Residual::ParallelOneNorm,
        (true, false) => Residual::Parallel,
        (false, _) => Residual::Sequential,
    };
    let norm = file.layer_norm(true)?;
    let layer = DecoderLayerConfig::new(attention, FeedForwardConfig::Plain(mlp), norm);
    let layers = vec![layer.with_residual(residual); file.layers()?];
    Ok(DecoderConfig::new(file.vocabulary()?, layers, norm)
        .with_tied_head(file.flag("tie_word_embeddings", true)?))
}
