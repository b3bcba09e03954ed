//! What diffusers' `config.json` says of the transformer.

use serde::Deserialize;
use serde_json::{Value, json};

use super::DiTConfig;
use crate::models::diffusion::folder::{Offered, offered};

/// Options of which nothing else is offered.
pub(super) const OFFERED: [Offered; 5] = [
    offered("activation_fn", &["\"gelu-approximate\""]),
    offered("attention_bias", &["true"]),
    offered("dropout", &["0", "0.0"]),
    offered("norm_elementwise_affine", &["false"]),
    offered("norm_type", &["\"ada_norm_zero\""]),
];

/// The fields that are read, with diffusers' defaults.
#[derive(Debug, Deserialize)]
pub(super) struct DiTFile {
    num_attention_heads: usize,
    attention_head_dim: usize,
    in_channels: usize,
    out_channels: Option<usize>,
    num_layers: usize,
    sample_size: usize,
    patch_size: usize,
    num_embeds_ada_norm: usize,
    #[serde(default = "epsilon")]
    norm_eps: f64,
}

fn epsilon() -> f64 {
    1e-5
}

impl DiTFile {
    pub(super) fn config(&self) -> DiTConfig {
        DiTConfig::new(
            self.sample_size,
            self.patch_size,
            self.in_channels,
            self.out_channels.unwrap_or(self.in_channels),
            self.num_layers,
            self.num_attention_heads,
            self.attention_head_dim,
            self.num_embeds_ada_norm,
        )
        .with_norm_epsilon(self.norm_eps)
    }
}

/// `config.json` of such a transformer.
pub(super) fn of(config: &DiTConfig) -> Value {
    json!({
        "_class_name": "DiTTransformer2DModel",
        "num_attention_heads": config.heads,
        "attention_head_dim": config.head_dim,
        "in_channels": config.inputs,
        "out_channels": config.outputs,
        "num_layers": config.layers,
        "sample_size": config.size,
        "patch_size": config.patch_size,
        "num_embeds_ada_norm": config.classes,
        "norm_eps": config.norm_epsilon,
    })
}
