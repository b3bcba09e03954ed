//! `BloomForCausalLM`: positions only through ALiBi, a norm of the embeddings.

use super::super::{DecoderConfig, DecoderLayerConfig, FeedForwardConfig};
use super::Family;
use super::fields::Fields;
use crate::models::blocks::{Activation, MlpConfig, PositionEncoding};
use crate::models::checkpoint::{
    CheckpointError, NameTable,
    Projection::{self, Key, Query, Value},
    Source::{self, Whole},
};

pub(super) const FAMILY: Family = Family {
    classes: &["BloomForCausalLM"],
    config,
    names: NameTable {
        prefixes: &["transformer."],
        backbone: &[
            ("embedding", Whole("word_embeddings")),
            ("embedding_norm.Layer", Whole("word_embeddings_layernorm")),
            ("norm.Layer", Whole("ln_f")),
            (
                "layers.{}.norm_attention.Layer",
                Whole("h.{}.input_layernorm"),
            ),
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
            ("layers.{}.mlp.Plain.inner", Whole("h.{}.mlp.dense_h_to_4h")),
            ("layers.{}.mlp.Plain.outer", Whole("h.{}.mlp.dense_4h_to_h")),
        ],
        heads: &[("head", Whole("lm_head"))],
        ignored: &["lm_head.weight"],
    },
};

const fn fused(part: Projection) -> Source {
    Source::Heads {
        of: "h.{}.self_attention.query_key_value",
        part,
    }
}

fn config(file: &Fields) -> Result<DecoderConfig, CheckpointError> {
    file.expect("apply_residual_connection_post_layernorm", false)?;
    let attention = file.attention()?;
    let slopes = alibi_slopes(attention.heads);
    let attention = attention
        .with_position(PositionEncoding::Alibi { slopes })
        .with_input_bias(true)
        .with_output_bias(true);
    let width = file.hidden_size()?;
    let mlp = MlpConfig::new(width, 4 * width).with_activation(Activation::GeluTanh);
    let norm = file.layer_norm(true)?;
    let layer = DecoderLayerConfig::new(attention, FeedForwardConfig::Plain(mlp), norm);
    let layers = vec![layer; file.layers()?];
    Ok(DecoderConfig::new(file.vocabulary()?, layers, norm)
        .with_embedding_norm(Some(norm))
        .with_tied_head(file.flag("tie_word_embeddings", true)?))
}

/// The paper's: `2^(-8 (h + 1) / heads)` where `heads` is a power of two, else those of the next
/// lower one, and then every second one of twice that.
fn alibi_slopes(heads: usize) -> Vec<f32> {
    let lower = if heads.is_power_of_two() {
        heads
    } else {
        heads.next_power_of_two() / 2
    };
    let slopes = |count: usize| (1..=count).map(move |n| (-8.0 * n as f64 / count as f64).exp2());
    let all = slopes(lower).chain(slopes(2 * lower).step_by(2));
    all.take(heads).map(|slope| slope as f32).collect()
}
