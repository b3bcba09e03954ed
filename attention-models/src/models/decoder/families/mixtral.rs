//! `MixtralForCausalLM`: Llama with a mixture of experts.

use super::super::{DecoderConfig, DecoderLayerConfig, FeedForwardConfig};
use super::Family;
use super::fields::{Fields, LayerType};
use super::llama::{HEADS, IGNORED, PREFIXES, names_like_llama};
use crate::models::blocks::MixtureOfExpertsConfig;
use crate::models::checkpoint::{CheckpointError, NameTable, Source::Whole};

pub(super) const FAMILY: Family = Family {
    classes: &["MixtralForCausalLM"],
    config,
    names: NameTable {
        prefixes: PREFIXES,
        backbone: names_like_llama![
            (
                "layers.{}.norm_mlp.Rms",
                Whole("layers.{}.post_attention_layernorm")
            ),
            (
                "layers.{}.mlp.Experts.router",
                Whole("layers.{}.block_sparse_moe.gate")
            ),
            (
                "layers.{}.mlp.Experts.experts.{}.gate",
                Whole("layers.{}.block_sparse_moe.experts.{}.w1"),
            ),
            (
                "layers.{}.mlp.Experts.experts.{}.inner",
                Whole("layers.{}.block_sparse_moe.experts.{}.w3"),
            ),
            (
                "layers.{}.mlp.Experts.experts.{}.outer",
                Whole("layers.{}.block_sparse_moe.experts.{}.w2"),
            ),
        ],
        heads: HEADS,
        ignored: IGNORED,
    },
};

fn config(file: &Fields) -> Result<DecoderConfig, CheckpointError> {
    let attention = file.attention()?;
    let position = file.rotary(attention.head_dim(), LayerType::Full.name())?;
    let experts = MixtureOfExpertsConfig::new(
        file.gated_mlp()?,
        file.need(&["num_local_experts"])?,
        file.need(&["num_experts_per_tok"])?,
    );
    let norm = file.rms_norm(0.0)?;
    let layer = DecoderLayerConfig::new(
        attention
            .with_position(position)
            .with_window(file.window()?),
        FeedForwardConfig::Experts(experts),
        norm,
    );
    let layers = vec![layer; file.layers()?];
    Ok(DecoderConfig::new(file.vocabulary()?, layers, norm)
        .with_tied_head(file.flag("tie_word_embeddings", false)?))
}
