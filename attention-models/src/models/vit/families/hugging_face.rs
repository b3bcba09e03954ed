//! What the `config.json` of transformers' vision models has in common.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::super::{Activation, VisionTransformerConfig};
use crate::models::checkpoint::{Checkpoint, CheckpointError};

/// The fields that are read; the families differ in the rest.
#[derive(Debug, Deserialize)]
pub(super) struct HuggingFaceConfig {
    hidden_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    image_size: usize,
    patch_size: usize,
    intermediate_size: Option<usize>,
    mlp_ratio: Option<usize>,
    #[serde(default = "three")]
    num_channels: usize,
    #[serde(default)]
    hidden_act: Activation,
    layer_norm_eps: f64,
    #[serde(default = "yes")]
    qkv_bias: bool,
    id2label: Option<BTreeMap<String, serde_json::Value>>,
    #[serde(default)]
    pub(super) num_register_tokens: usize,
    #[serde(default)]
    pub(super) use_swiglu_ffn: bool,
    pub(super) projection_dim: Option<usize>,
}

fn three() -> usize {
    3
}

fn yes() -> bool {
    true
}

impl HuggingFaceConfig {
    /// Number of labels; transformers leaves its default of two out of the file.
    pub(super) fn labels(&self) -> usize {
        self.id2label.as_ref().map_or(2, BTreeMap::len)
    }

    /// The sizes that all families share.
    pub(super) fn sizes(
        &self,
        checkpoint: &Checkpoint,
    ) -> Result<VisionTransformerConfig, CheckpointError> {
        let ratio = self.mlp_ratio.map(|ratio| ratio * self.hidden_size);
        let Some(mlp_size) = self.intermediate_size.or(ratio) else {
            return Err(
                checkpoint.invalid_config("missing field `intermediate_size` or `mlp_ratio`")
            );
        };
        let config = VisionTransformerConfig::new(
            self.image_size,
            self.patch_size,
            self.hidden_size,
            self.num_hidden_layers,
            self.num_attention_heads,
            mlp_size,
        );
        Ok(config
            .with_channels(self.num_channels)
            .with_activation(self.hidden_act)
            .with_norm_epsilon(self.layer_norm_eps)
            .with_qkv_bias(self.qkv_bias))
    }
}
