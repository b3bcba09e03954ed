//! What the `config.json` of BERT, ALBERT, RoFormer and DeBERTa has in common.

use serde::Deserialize;

use super::super::EncoderConfig;
use crate::models::blocks::Activation;

/// The fields that are read; the families differ in the rest.
#[derive(Debug, Deserialize)]
pub(super) struct HuggingFaceConfig {
    pub vocab_size: usize,
    pub max_position_embeddings: usize,
    pub hidden_size: usize,
    pub num_hidden_layers: usize,
    pub num_attention_heads: usize,
    pub intermediate_size: usize,
    #[serde(default)]
    pub hidden_act: Activation,
    #[serde(default)]
    pub type_vocab_size: usize,
    pub layer_norm_eps: f64,
    pub embedding_size: Option<usize>,
}

impl HuggingFaceConfig {
    /// The sizes that the families share.
    pub fn sizes(&self) -> EncoderConfig {
        EncoderConfig::new(
            self.vocab_size,
            self.max_position_embeddings,
            self.hidden_size,
            self.num_hidden_layers,
            self.num_attention_heads,
            self.intermediate_size,
        )
        .with_activation(self.hidden_act)
        .with_segments(self.type_vocab_size)
        .with_norm_epsilon(self.layer_norm_eps)
    }
}
