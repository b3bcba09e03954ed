//! `GPT2LMHeadModel`: learned positions, and matrices stored the other way round.

use super::super::{DecoderConfig, DecoderLayerConfig, FeedForwardConfig};
use super::Family;
use super::fields::Fields;
use crate::models::blocks::MlpConfig;
use crate::models::checkpoint::{
    CheckpointError, NameTable,
    Source::{self, Transposed, Whole},
};

pub(super) const FAMILY: Family = Family {
    classes: &["GPT2LMHeadModel"],
    config,
    names: NameTable {
        prefixes: &["transformer."],
        backbone: &[
            ("embedding", Whole("wte")),
            ("positions", Whole("wpe")),
            ("norm.Layer", Whole("ln_f")),
            ("layers.{}.norm_attention.Layer", Whole("h.{}.ln_1")),
            ("layers.{}.attention.query", fused(0)),
            ("layers.{}.attention.key", fused(1)),
            ("layers.{}.attention.value", fused(2)),
            ("layers.{}.attention.output", Transposed("h.{}.attn.c_proj")),
            ("layers.{}.norm_mlp.Layer", Whole("h.{}.ln_2")),
            ("layers.{}.mlp.Plain.inner", Transposed("h.{}.mlp.c_fc")),
            ("layers.{}.mlp.Plain.outer", Transposed("h.{}.mlp.c_proj")),
        ],
        heads: &[("head", Whole("lm_head"))],
        ignored: &["lm_head.weight", "h.{}.attn.bias", "h.{}.attn.masked_bias"],
    },
};

const fn fused(part: usize) -> Source {
    Source::Columns {
        of: "h.{}.attn.c_attn",
        part,
        parts: 3,
    }
}

fn config(file: &Fields) -> Result<DecoderConfig, CheckpointError> {
    let width = file.hidden_size()?;
    let inner = file.find(&["n_inner"])?.unwrap_or(4 * width);
    let norm = file.layer_norm(true)?;
    let by_layer = file.flag("scale_attn_by_inverse_layer_idx", false)?;
    let scaled = file.flag("scale_attn_weights", true)?;
    let attention = file
        .attention()?
        .with_input_bias(true)
        .with_output_bias(true);
    let layer = |index: usize| {
        let root = (attention.head_dim() as f64).sqrt();
        let divisor = if scaled { root } else { 1.0 };
        let divisor = if by_layer {
            divisor * (index + 1) as f64
        } else {
            divisor
        };
        let mlp = MlpConfig::new(width, inner).with_activation(file.activation()?);
        Ok(DecoderLayerConfig::new(
            attention.clone().with_scale(Some(1.0 / divisor)),
            FeedForwardConfig::Plain(mlp),
            norm,
        ))
    };
    let layers = (0..file.layers()?).map(layer).collect::<Result<_, _>>()?;
    Ok(DecoderConfig::new(file.vocabulary()?, layers, norm)
        .with_learned_positions(Some(file.max_positions()?))
        .with_tied_head(file.flag("tie_word_embeddings", true)?))
}
