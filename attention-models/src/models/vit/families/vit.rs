//! `ViTForImageClassification` and `ViTModel`, also DINO's, of transformers.

use std::path::Path;

use serde_json::json;

use super::super::{Activation, Head, VisionTransformerConfig};
use super::{Family, hugging_face::HuggingFaceConfig};
use crate::models::checkpoint::{
    Checkpoint, CheckpointError, Format, NameTable,
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

/// How a model of this configuration is written, whatever made it.
pub(in super::super) fn format(
    config: &VisionTransformerConfig,
    folder: &Path,
) -> Result<Format, CheckpointError> {
    let (class, labels, prefix) = match config.head {
        Head::None => ("ViTModel", 0, ""),
        Head::ClassToken {
            outputs,
            bias: true,
        } => ("ViTForImageClassification", outputs, "vit."),
        _ => return Err(no_vit(folder)),
    };
    // What the file says has to describe the whole model.
    let plain = VisionTransformerConfig::new(
        config.image_size,
        config.patch_size,
        config.hidden_size,
        config.layers,
        config.heads,
        config.mlp_size,
    )
    .with_channels(config.channels)
    .with_activation(config.activation)
    .with_norm_epsilon(config.norm_epsilon)
    .with_qkv_bias(config.qkv_bias)
    .with_pooler(config.pooler)
    .with_head(config.head);
    if plain != *config {
        return Err(no_vit(folder));
    }
    let names: serde_json::Map<_, _> = (0..labels)
        .map(|label| (label.to_string(), json!(label.to_string())))
        .collect();
    let numbers: serde_json::Map<_, _> = (0..labels)
        .map(|label| (label.to_string(), json!(label)))
        .collect();
    let file = json!({
        "architectures": [class],
        "model_type": "vit",
        "attention_probs_dropout_prob": 0.0,
        "dtype": "float32",
        "encoder_stride": config.patch_size,
        "hidden_act": match config.activation {
            Activation::Gelu => "gelu",
            Activation::QuickGelu => "quick_gelu",
        },
        "hidden_dropout_prob": 0.0,
        "hidden_size": config.hidden_size,
        "id2label": names,
        "image_size": config.image_size,
        "initializer_range": 0.02,
        "intermediate_size": config.mlp_size,
        "label2id": numbers,
        "layer_norm_eps": config.norm_epsilon,
        "num_attention_heads": config.heads,
        "num_channels": config.channels,
        "num_hidden_layers": config.layers,
        "patch_size": config.patch_size,
        "qkv_bias": config.qkv_bias,
    });
    // The projection of patches is a matrix here and a convolution there.
    let (channels, side) = (config.channels, config.patch_size);
    let kernel = vec![config.hidden_size, channels, side, side];
    let name = format!("{prefix}embeddings.patch_embeddings.projection.weight");
    let format = Format::new(file, FAMILY.names).with_prefix(prefix);
    Ok(format.with_shapes([(name, kernel)].into()))
}

fn no_vit(folder: &Path) -> CheckpointError {
    CheckpointError::Config {
        path: folder.join("config.json"),
        reason: "the model is no ViT as transformers has it; accepted: its variants, or a model that was read"
            .into(),
    }
}
