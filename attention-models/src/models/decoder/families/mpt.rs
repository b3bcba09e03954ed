//! `MptForCausalLM`: positions only through ALiBi, no biases anywhere.

use serde::Deserialize;

use super::super::{DecoderConfig, DecoderLayerConfig, FeedForwardConfig};
use super::Family;
use super::fields::Fields;
use crate::models::blocks::{Activation, MlpConfig, PositionEncoding};
use crate::models::checkpoint::{
    CheckpointError, NameTable,
    Source::{self, Whole},
};

pub(super) const FAMILY: Family = Family {
    classes: &["MptForCausalLM"],
    config,
    names: NameTable {
        prefixes: &["transformer."],
        backbone: &[
            ("embedding", Whole("wte")),
            ("norm.Layer", Whole("norm_f")),
            ("layers.{}.norm_attention.Layer", Whole("blocks.{}.norm_1")),
            ("layers.{}.attention.query", fused(0)),
            ("layers.{}.attention.key", fused(1)),
            ("layers.{}.attention.value", fused(2)),
            (
                "layers.{}.attention.output",
                Whole("blocks.{}.attn.out_proj"),
            ),
            ("layers.{}.norm_mlp.Layer", Whole("blocks.{}.norm_2")),
            ("layers.{}.mlp.Plain.inner", Whole("blocks.{}.ffn.up_proj")),
            (
                "layers.{}.mlp.Plain.outer",
                Whole("blocks.{}.ffn.down_proj"),
            ),
        ],
        heads: &[("head", Whole("lm_head"))],
        ignored: &["lm_head.weight"],
    },
};

const fn fused(part: usize) -> Source {
    Source::Rows {
        of: "blocks.{}.attn.Wqkv",
        part,
        parts: 3,
    }
}

#[derive(Deserialize)]
struct AttentionFields {
    alibi_bias_max: Option<f64>,
    softmax_scale: Option<f64>,
    clip_qkv: Option<f64>,
}

fn config(file: &Fields) -> Result<DecoderConfig, CheckpointError> {
    let fields: AttentionFields = file.need(&["attn_config"])?;
    if fields.clip_qkv.is_some() {
        return Err(file.refuse("`clip_qkv` is set; accepted: null"));
    }
    let attention = file.attention()?;
    let slopes = alibi_slopes(attention.heads, fields.alibi_bias_max.unwrap_or(8.0));
    let attention = attention
        .with_position(PositionEncoding::Alibi { slopes })
        .with_scale(fields.softmax_scale);
    let width = file.hidden_size()?;
    // transformers always takes four times the width, whatever `expansion_ratio` says.
    let mlp = MlpConfig::new(width, 4 * width)
        .with_bias(false)
        .with_activation(Activation::Gelu);
    let norm = file.layer_norm(false)?;
    let layer = DecoderLayerConfig::new(attention, FeedForwardConfig::Plain(mlp), norm);
    let layers = vec![layer; file.layers()?];
    Ok(DecoderConfig::new(file.vocabulary()?, layers, norm)
        .with_tied_head(file.flag("tie_word_embeddings", true)?))
}

/// `2^(-max (h + 1) / n)` with `n` the next power of two; of more than there are heads, every second
/// one comes first.
fn alibi_slopes(heads: usize, max: f64) -> Vec<f32> {
    let count = heads.next_power_of_two();
    let slopes: Vec<_> = (1..=count)
        .map(|n| (-max * n as f64 / count as f64).exp2() as f32)
        .collect();
    if count == heads {
        return slopes;
    }
    let odd = slopes.iter().skip(1).step_by(2);
    odd.chain(slopes.iter().step_by(2))
        .take(heads)
        .copied()
        .collect()
}
