//! `Gemma2ForCausalLM` and `Gemma3ForCausalLM`: layers with a window among layers without, norms
//! before and after, embeddings scaled by the root of their width.

use super::super::{DecoderConfig, DecoderLayerConfig, FeedForwardConfig, Residual};
use super::Family;
use super::fields::{Fields, LayerType};
use super::llama::{HEADS, IGNORED, PREFIXES, names_like_llama};
use crate::models::blocks::{PositionEncoding, SelfAttentionConfig};
use crate::models::checkpoint::{CheckpointError, NameTable, Source::Whole};

pub(super) const FAMILY: Family = Family {
    classes: &["Gemma2ForCausalLM", GEMMA3],
    config,
    names: NameTable {
        prefixes: PREFIXES,
        backbone: names_like_llama![
            (
                "layers.{}.norm_attention_output.Rms",
                Whole("layers.{}.post_attention_layernorm"),
            ),
            (
                "layers.{}.norm_mlp.Rms",
                Whole("layers.{}.pre_feedforward_layernorm")
            ),
            (
                "layers.{}.norm_mlp_output.Rms",
                Whole("layers.{}.post_feedforward_layernorm"),
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

const GEMMA3: &str = "Gemma3ForCausalLM";

fn config(file: &Fields) -> Result<DecoderConfig, CheckpointError> {
    let gemma3 = file.class() == GEMMA3;
    let attention = attention(file)?;
    // Gemma 2 alternates; of Gemma 3's layers, every sixth sees everything.
    let names = ["sliding_window_pattern", "_sliding_window_pattern"];
    let every = file.find(&names)?.unwrap_or(if gemma3 { 6 } else { 2 });
    let types = file.layer_types(|layer| !(layer + 1).is_multiple_of(every))?;
    let norm = file.rms_norm(1.0)?;
    let layer = |kind: &LayerType| {
        let mut attention = attention.clone();
        attention.position = position(file, &attention, *kind)?;
        if *kind == LayerType::Sliding {
            attention.window = file.window()?;
        }
        let mlp = FeedForwardConfig::Gated(file.gated_mlp()?);
        let layer = DecoderLayerConfig::new(attention, mlp, norm);
        Ok(layer.with_residual(Residual::Sandwich))
    };
    let layers = types.iter().map(layer).collect::<Result<_, _>>()?;
    Ok(DecoderConfig::new(file.vocabulary()?, layers, norm)
        .with_embedding_scale(Some((file.hidden_size()? as f64).sqrt()))
        .with_logit_softcap(file.find(&["final_logit_softcapping"])?)
        .with_tied_head(file.flag("tie_word_embeddings", true)?))
}

fn attention(file: &Fields) -> Result<SelfAttentionConfig, CheckpointError> {
    let bias = file.flag("attention_bias", false)?;
    let scalar = file.need::<f64>(&["query_pre_attn_scalar"])?;
    let epsilon = file.find(&["rms_norm_eps"])?.unwrap_or(1e-6);
    let head_norm = (file.class() == GEMMA3).then_some((epsilon, 1.0));
    Ok(file
        .attention()?
        .with_input_bias(bias)
        .with_output_bias(bias)
        .with_scale(Some(scalar.powf(-0.5)))
        .with_softcap(file.find(&["attn_logit_softcapping"])?)
        .with_head_norm(head_norm))
}

/// Gemma 3's windows have a `theta` of their own, which older files keep apart and never scale.
fn position(
    file: &Fields,
    attention: &SelfAttentionConfig,
    kind: LayerType,
) -> Result<PositionEncoding, CheckpointError> {
    let local = file.find(&["rope_local_base_freq"])?;
    match (kind, local) {
        (LayerType::Sliding, Some(theta)) => {
            let rotary = crate::models::blocks::RotaryConfig::new(attention.head_dim());
            Ok(PositionEncoding::Rotary(rotary.with_theta(theta)))
        }
        _ => file.rotary(attention.head_dim(), kind.name()),
    }
}
