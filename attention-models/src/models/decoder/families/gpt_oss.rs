//! `GptOssForCausalLM`: sinks, layers with a window among layers without, clamped experts.

use super::super::{DecoderConfig, DecoderLayerConfig, FeedForwardConfig};
use super::Family;
use super::fields::{Fields, LayerType};
use super::llama::{HEADS, IGNORED, PREFIXES, names_like_llama};
use crate::models::blocks::{Gate, GatedMlpConfig, MixtureOfExpertsConfig};
use crate::models::checkpoint::{
    CheckpointError, NameTable,
    Source::{Expert, ExpertColumns, Whole},
};

pub(super) const FAMILY: Family = Family {
    classes: &["GptOssForCausalLM"],
    config,
    names: NameTable {
        prefixes: PREFIXES,
        backbone: names_like_llama![
            (
                "layers.{}.attention.sinks",
                Whole("layers.{}.self_attn.sinks")
            ),
            (
                "layers.{}.norm_mlp.Rms",
                Whole("layers.{}.post_attention_layernorm")
            ),
            (
                "layers.{}.mlp.Experts.router",
                Whole("layers.{}.mlp.router")
            ),
            (
                "layers.{}.mlp.Experts.experts.{}.gate.weight",
                ExpertColumns {
                    of: "layers.{}.mlp.experts.gate_up_proj",
                    part: 0,
                    parts: 2
                },
            ),
            (
                "layers.{}.mlp.Experts.experts.{}.inner.weight",
                ExpertColumns {
                    of: "layers.{}.mlp.experts.gate_up_proj",
                    part: 1,
                    parts: 2
                },
            ),
            (
                "layers.{}.mlp.Experts.experts.{}.gate.bias",
                ExpertColumns {
                    of: "layers.{}.mlp.experts.gate_up_proj_bias",
                    part: 0,
                    parts: 2
                },
            ),
            (
                "layers.{}.mlp.Experts.experts.{}.inner.bias",
                ExpertColumns {
                    of: "layers.{}.mlp.experts.gate_up_proj_bias",
                    part: 1,
                    parts: 2
                },
            ),
            (
                "layers.{}.mlp.Experts.experts.{}.outer.weight",
                Expert("layers.{}.mlp.experts.down_proj"),
            ),
            (
                "layers.{}.mlp.Experts.experts.{}.outer.bias",
                Expert("layers.{}.mlp.experts.down_proj_bias"),
            ),
        ],
        heads: HEADS,
        ignored: IGNORED,
    },
};

fn config(file: &Fields) -> Result<DecoderConfig, CheckpointError> {
    let bias = file.flag("attention_bias", true)?;
    let attention = file.attention()?;
    let position = file.rotary(attention.head_dim(), LayerType::Full.name())?;
    let attention = attention
        .with_position(position)
        .with_input_bias(bias)
        .with_output_bias(bias)
        .with_sinks(true);
    let gate = Gate::Clamped {
        alpha: file.find(&["swiglu_alpha"])?.unwrap_or(1.702),
        limit: file.find(&["swiglu_limit"])?.unwrap_or(7.0),
    };
    let expert = GatedMlpConfig::new(file.hidden_size()?, file.need(&["intermediate_size"])?);
    let experts = MixtureOfExpertsConfig::new(
        expert.with_bias(true).with_gate(gate),
        file.need(&["num_local_experts"])?,
        file.need(&["num_experts_per_tok"])?,
    );
    let experts = experts.with_router_bias(true);
    let norm = file.rms_norm(0.0)?;
    let window = file.window()?;
    let layer = |kind: &LayerType| {
        let sliding = *kind == LayerType::Sliding;
        let attention = attention.clone().with_window(window.filter(|_| sliding));
        DecoderLayerConfig::new(attention, FeedForwardConfig::Experts(experts.clone()), norm)
    };
    let types = file.layer_types(|layer| layer.is_multiple_of(2))?;
    let layers = types.iter().map(layer).collect();
    Ok(DecoderConfig::new(file.vocabulary()?, layers, norm)
        .with_tied_head(file.flag("tie_word_embeddings", false)?))
}
