//! `Dinov2Model` and `Dinov2ForImageClassification` of transformers, and both with registers.

use super::super::{Head, VisionTransformerConfig};
use super::{Family, hugging_face::HuggingFaceConfig};
use crate::models::checkpoint::{Checkpoint, CheckpointError, NameTable, Source::Whole, Weights};
use crate::models::resample::Bicubic;

pub(super) const FAMILY: Family = Family {
    classes: &[
        "Dinov2Model",
        "Dinov2ForImageClassification",
        "Dinov2WithRegistersModel",
        "Dinov2WithRegistersForImageClassification",
    ],
    config,
    names: NameTable {
        prefixes: &["dinov2.", "dinov2_with_registers."],
        backbone: &[
            ("embeddings.class_token", Whole("embeddings.cls_token")),
            (
                "embeddings.positions",
                Whole("embeddings.position_embeddings"),
            ),
            (
                "embeddings.projection",
                Whole("embeddings.patch_embeddings.projection"),
            ),
            ("layers.{}.norm_attention", Whole("encoder.layer.{}.norm1")),
            (
                "layers.{}.attention.query",
                Whole("encoder.layer.{}.attention.attention.query"),
            ),
            (
                "layers.{}.attention.key",
                Whole("encoder.layer.{}.attention.attention.key"),
            ),
            (
                "layers.{}.attention.value",
                Whole("encoder.layer.{}.attention.attention.value"),
            ),
            (
                "layers.{}.attention.output",
                Whole("encoder.layer.{}.attention.output.dense"),
            ),
            (
                "layers.{}.scale_attention",
                Whole("encoder.layer.{}.layer_scale1.lambda1"),
            ),
            ("layers.{}.norm_mlp", Whole("encoder.layer.{}.norm2")),
            ("layers.{}.mlp.inner", Whole("encoder.layer.{}.mlp.fc1")),
            ("layers.{}.mlp.outer", Whole("encoder.layer.{}.mlp.fc2")),
            (
                "layers.{}.scale_mlp",
                Whole("encoder.layer.{}.layer_scale2.lambda1"),
            ),
            ("norm", Whole("layernorm")),
        ],
        heads: &[("head", Whole("classifier"))],
        ignored: &["embeddings.mask_token"],
    },
};

fn config(
    checkpoint: &Checkpoint,
    _weights: &Weights,
) -> Result<VisionTransformerConfig, CheckpointError> {
    let file: HuggingFaceConfig = checkpoint.config()?;
    if file.use_swiglu_ffn {
        return Err(checkpoint.invalid_config("`use_swiglu_ffn` is true; accepted: false"));
    }
    let class = checkpoint.architecture().unwrap_or_default();
    let head = if class.ends_with("ForImageClassification") {
        Head::ClassAndPatchMean {
            outputs: file.labels(),
        }
    } else {
        Head::None
    };
    let position_filter = if class.starts_with("Dinov2WithRegisters") {
        Bicubic::Antialiased
    } else {
        Bicubic::Plain
    };
    Ok(file
        .sizes(checkpoint)?
        .with_register_tokens(file.num_register_tokens)
        .with_position_filter(position_filter)
        .with_layer_scale(Some(1.0))
        .with_head(head))
}
