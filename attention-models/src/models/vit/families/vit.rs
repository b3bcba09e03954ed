//! `ViTForImageClassification` and `ViTModel`, also DINO's, of transformers.

use super::super::{Head, VisionTransformerConfig};
use super::{Family, hugging_face::HuggingFaceConfig};
use crate::models::checkpoint::{
    Checkpoint, CheckpointError, NameTable,
    Source::{self, Whole},
    Weights,
};

pub(super) const FAMILY: Family = Family {
    classes: &["ViTForImageClassification", "ViTModel"],
    config,
    names: NameTable {
        prefixes: &["vit."],
        backbone: &BACKBONE,
        heads: &[("head", Whole("classifier"))],
        ignored: &["embeddings.mask_token"],
    },
};

/// The names that ViT and DeiT share.
pub(super) const BACKBONE: [(&str, Source); 13] = [
    ("embeddings.class_token", Whole("embeddings.cls_token")),
    (
        "embeddings.positions",
        Whole("embeddings.position_embeddings"),
    ),
    (
        "embeddings.projection",
        Whole("embeddings.patch_embeddings.projection"),
    ),
    (
        "layers.{}.norm_attention",
        Whole("encoder.layer.{}.layernorm_before"),
    ),
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
        "layers.{}.norm_mlp",
        Whole("encoder.layer.{}.layernorm_after"),
    ),
    (
        "layers.{}.mlp.inner",
        Whole("encoder.layer.{}.intermediate.dense"),
    ),
    (
        "layers.{}.mlp.outer",
        Whole("encoder.layer.{}.output.dense"),
    ),
    ("norm", Whole("layernorm")),
    ("pooler", Whole("pooler.dense")),
];

fn config(
    checkpoint: &Checkpoint,
    weights: &Weights,
) -> Result<VisionTransformerConfig, CheckpointError> {
    let file: HuggingFaceConfig = checkpoint.config()?;
    let head = match checkpoint.architecture() {
        Some("ViTForImageClassification") => Head::ClassToken {
            outputs: file.labels(),
            bias: true,
        },
        _ => Head::None,
    };
    Ok(file
        .sizes(checkpoint)?
        .with_pooler(weights.contains("pooler.dense.weight"))
        .with_head(head))
}
