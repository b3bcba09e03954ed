//! `DiffLlamaForCausalLM`: Llama with differential attention.

use super::super::{DecoderConfig, DecoderLayerConfig, FeedForwardConfig};
use super::Family;
use super::fields::{Fields, LayerType};
use super::llama::{HEADS, IGNORED, PREFIXES, names_like_llama};
use crate::models::checkpoint::{CheckpointError, NameTable, Source::Whole};

pub(super) const FAMILY: Family = Family {
    classes: &["DiffLlamaForCausalLM"],
    config,
    names: NameTable {
        prefixes: PREFIXES,
        backbone: names_like_llama![
            (
                "layers.{}.attention.differential",
                Whole("layers.{}.self_attn")
            ),
            (
                "layers.{}.norm_mlp.Rms",
                Whole("layers.{}.post_attention_layernorm")
            ),
            ("layers.{}.mlp.Gated.gate", Whole("layers.{}.mlp.gate_proj")),
            ("layers.{}.mlp.Gated.inner", Whole("layers.{}.mlp.up_proj")),
            (
                "layers.{}.mlp.Gated.outer",
                Whole("layers.{}.mlp.down_proj")
            ),
        ],
        heads: HEADS,
        ignored: IGNORED,
    },
};

fn config(file: &Fields) -> Result<DecoderConfig, CheckpointError> {
    let attention = file.attention()?;
    let position = file.rotary(attention.head_dim(), LayerType::Full.name())?;
    let bias = file.flag("attention_bias", false)?;
    let attention = attention
        .with_position(position)
        .with_input_bias(bias)
        .with_output_bias(bias);
    let epsilon = file.find(&["rms_norm_eps"])?.unwrap_or(1e-6);
    let norm = file.rms_norm(0.0)?;
    let layer = |index: usize| {
        let lambda_init = 0.8 - 0.6 * (-0.3 * index as f64).exp();
        let attention = attention.clone();
        Ok(DecoderLayerConfig::new(
            attention.with_differential(Some((lambda_init, epsilon))),
            FeedForwardConfig::Gated(file.gated_mlp()?),
            norm,
        ))
    };
    let layers = (0..file.layers()?).map(layer).collect::<Result<_, _>>()?;
    Ok(DecoderConfig::new(file.vocabulary()?, layers, norm)
        .with_tied_head(file.flag("tie_word_embeddings", false)?))
}
