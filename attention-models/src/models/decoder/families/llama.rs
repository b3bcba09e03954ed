//! `LlamaForCausalLM`, and those that differ from it by biases, norms of heads and windows:
//! `MistralForCausalLM`, `Qwen2ForCausalLM`, `Qwen3ForCausalLM`.

use super::super::{DecoderConfig, DecoderLayerConfig, FeedForwardConfig};
use super::Family;
use super::fields::{Fields, LayerType};
use crate::models::blocks::SelfAttentionConfig;
use crate::models::checkpoint::{CheckpointError, NameTable, Source::Whole};

/// The names that many families share with Llama, and those that are their own.
macro_rules! names_like_llama {
    ($($line:expr),* $(,)?) => {
        &[
            ("embedding", Whole("embed_tokens")),
            ("norm.Rms", Whole("norm")),
            ("layers.{}.norm_attention.Rms", Whole("layers.{}.input_layernorm")),
            ("layers.{}.attention.query", Whole("layers.{}.self_attn.q_proj")),
            ("layers.{}.attention.key", Whole("layers.{}.self_attn.k_proj")),
            ("layers.{}.attention.value", Whole("layers.{}.self_attn.v_proj")),
            ("layers.{}.attention.output", Whole("layers.{}.self_attn.o_proj")),
            ("layers.{}.attention.query_norm", Whole("layers.{}.self_attn.q_norm")),
            ("layers.{}.attention.key_norm", Whole("layers.{}.self_attn.k_norm")),
            $($line),*
        ]
    };
}
pub(super) use names_like_llama;

pub(super) const FAMILY: Family = Family {
    classes: &[
        "LlamaForCausalLM",
        "MistralForCausalLM",
        "Qwen2ForCausalLM",
        "Qwen3ForCausalLM",
    ],
    config,
    names: NameTable {
        prefixes: PREFIXES,
        backbone: names_like_llama![
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

pub(super) const PREFIXES: &[&str] = &["model."];
pub(super) const HEADS: &[(&str, crate::models::checkpoint::Source)] =
    &[("head", Whole("lm_head"))];
pub(super) const IGNORED: &[&str] = &["lm_head.weight", "layers.{}.self_attn.rotary_emb.inv_freq"];

fn config(file: &Fields) -> Result<DecoderConfig, CheckpointError> {
    let attention = attention(file)?;
    let windowed = file.flag("use_sliding_window", file.class() == "MistralForCausalLM")?;
    // Qwen's first layers see everything.
    let first = file.find(&["max_window_layers"])?.unwrap_or(0);
    let types = file.layer_types(|layer| windowed && layer >= first)?;
    let window = file.window()?;
    let norm = file.rms_norm(0.0)?;
    let layer = |kind: &LayerType| {
        let sliding = *kind == LayerType::Sliding;
        let attention = attention.clone().with_window(window.filter(|_| sliding));
        Ok(DecoderLayerConfig::new(
            attention,
            FeedForwardConfig::Gated(file.gated_mlp()?),
            norm,
        ))
    };
    let layers = types.iter().map(layer).collect::<Result<_, _>>()?;
    Ok(DecoderConfig::new(file.vocabulary()?, layers, norm)
        .with_tied_head(file.flag("tie_word_embeddings", false)?))
}

fn attention(file: &Fields) -> Result<SelfAttentionConfig, CheckpointError> {
    let attention = file.attention()?;
    let position = file.rotary(attention.head_dim(), LayerType::Full.name())?;
    let attention = attention.with_position(position);
    Ok(match file.class() {
        "Qwen2ForCausalLM" => attention.with_input_bias(true),
        "Qwen3ForCausalLM" => {
            let bias = file.flag("attention_bias", false)?;
            let epsilon = file.find(&["rms_norm_eps"])?.unwrap_or(1e-6);
            attention
                .with_head_norm(Some((epsilon, 0.0)))
                .with_input_bias(bias)
                .with_output_bias(bias)
        }
        _ => {
            let bias = file.flag("attention_bias", false)?;
            attention.with_input_bias(bias).with_output_bias(bias)
        }
    })
}
