//! timm's `VisionTransformer`: its keyword arguments beside `timm_class` in `config.json`, its
//! state dict in `model.safetensors`.

use serde::Deserialize;

use super::super::{Head, VisionTransformerConfig};
use super::Family;
use crate::models::checkpoint::{
    Checkpoint, CheckpointError, NameTable,
    Source::{self, Rows, Whole},
    Weights,
};
use crate::models::resample::Bicubic;

pub(super) const FAMILY: Family = Family {
    classes: &["VisionTransformer"],
    config,
    names: NameTable {
        prefixes: &[],
        backbone: &[
            ("embeddings.class_token", Whole("cls_token")),
            ("embeddings.register_tokens", Whole("reg_token")),
            ("embeddings.positions", Whole("pos_embed")),
            ("embeddings.projection", Whole("patch_embed.proj")),
            ("layers.{}.norm_attention", Whole("blocks.{}.norm1")),
            ("layers.{}.attention.query", fused(0)),
            ("layers.{}.attention.key", fused(1)),
            ("layers.{}.attention.value", fused(2)),
            ("layers.{}.attention.output", Whole("blocks.{}.attn.proj")),
            ("layers.{}.scale_attention", Whole("blocks.{}.ls1.gamma")),
            ("layers.{}.norm_mlp", Whole("blocks.{}.norm2")),
            ("layers.{}.mlp.inner", Whole("blocks.{}.mlp.fc1")),
            ("layers.{}.mlp.outer", Whole("blocks.{}.mlp.fc2")),
            ("layers.{}.scale_mlp", Whole("blocks.{}.ls2.gamma")),
        ],
        heads: &[],
        ignored: &[],
    },
};

const fn fused(part: usize) -> Source {
    Rows {
        of: "blocks.{}.attn.qkv",
        part,
        parts: 3,
    }
}

/// The keyword arguments that are read, with timm's defaults.
#[derive(Debug, Deserialize)]
#[serde(default)]
struct Arguments {
    img_size: usize,
    patch_size: usize,
    in_chans: usize,
    num_classes: usize,
    embed_dim: usize,
    depth: usize,
    num_heads: usize,
    mlp_ratio: f64,
    qkv_bias: bool,
    init_values: Option<f64>,
    reg_tokens: usize,
    no_embed_class: bool,
}

impl Default for Arguments {
    fn default() -> Self {
        Self {
            img_size: 224,
            patch_size: 16,
            in_chans: 3,
            num_classes: 1000,
            embed_dim: 768,
            depth: 12,
            num_heads: 12,
            mlp_ratio: 4.0,
            qkv_bias: true,
            init_values: None,
            reg_tokens: 0,
            no_embed_class: false,
        }
    }
}

fn config(
    checkpoint: &Checkpoint,
    _weights: &Weights,
) -> Result<VisionTransformerConfig, CheckpointError> {
    let file: Arguments = checkpoint.config()?;
    if file.no_embed_class {
        return Err(checkpoint.invalid_config("`no_embed_class` is true; accepted: false"));
    }
    let head = match file.num_classes {
        0 => Head::None,
        outputs => Head::ClassToken {
            outputs,
            bias: true,
        },
    };
    let mlp_size = (file.embed_dim as f64 * file.mlp_ratio) as usize;
    let config = VisionTransformerConfig::new(
        file.img_size,
        file.patch_size,
        file.embed_dim,
        file.depth,
        file.num_heads,
        mlp_size,
    );
    Ok(config
        .with_channels(file.in_chans)
        .with_qkv_bias(file.qkv_bias)
        .with_register_tokens(file.reg_tokens)
        .with_register_positions(true)
        .with_position_filter(Bicubic::Antialiased)
        .with_layer_scale(file.init_values)
        .with_head(head))
}
