//! How a model that was made, not read, is written: as the Llama that it is.

use std::path::Path;

use serde_json::json;

use super::super::{DecoderConfig, DecoderLayerConfig, FeedForwardConfig};
use super::llama;
use crate::models::blocks::{
    GatedMlpConfig, NormConfig, PositionEncoding, RotaryConfig, SelfAttentionConfig,
};
use crate::models::checkpoint::{CheckpointError, Format};

/// What transformers takes a Llama to have; rotary positions end nowhere.
const USUAL_POSITIONS: usize = 2048;

/// The format of a folder of `LlamaForCausalLM`.
///
/// # Errors
/// [`CheckpointError::Config`] for a model with anything that a Llama does not have.
pub fn llama_format(config: &DecoderConfig, folder: &Path) -> Result<Format, CheckpointError> {
    let refuse = || CheckpointError::Config {
        path: folder.join("config.json"),
        reason: "the model was made, and is no Llama: causal attention with rotary positions and \
                 without biases, gated MLPs, RMSNorm, the same in each layer; accepted: such a \
                 model, or one that was read from a folder"
            .into(),
    };
    let layer = config.layers.first().ok_or_else(refuse)?;
    let attention = &layer.attention;
    let (PositionEncoding::Rotary(rotary), FeedForwardConfig::Gated(mlp)) =
        (&attention.position, &layer.feed_forward)
    else {
        return Err(refuse());
    };
    let NormConfig::Rms { epsilon, .. } = config.norm else {
        return Err(refuse());
    };
    let width = attention.hidden_size;
    if *config != llama_like(config, attention, rotary.theta, mlp.inner_size, epsilon) {
        return Err(refuse());
    }
    let json = json!({
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": config.vocabulary,
        "hidden_size": width,
        "intermediate_size": mlp.inner_size,
        "num_hidden_layers": config.layers.len(),
        "num_attention_heads": attention.heads,
        "num_key_value_heads": attention.kv_heads(),
        "head_dim": attention.head_dim(),
        "hidden_act": "silu",
        "rms_norm_eps": epsilon,
        "rope_theta": rotary.theta,
        "max_position_embeddings": USUAL_POSITIONS,
        "attention_bias": false,
        "mlp_bias": false,
        "tie_word_embeddings": config.tied_head,
        // Absent ones would be 1 and 2.
        "bos_token_id": null,
        "eos_token_id": null,
    });
    let prefix = llama::PREFIXES[0];
    Ok(Format::new(json, llama::FAMILY.names).with_prefix(prefix))
}

/// The Llama of these sizes.
fn llama_like(
    config: &DecoderConfig,
    attention: &SelfAttentionConfig,
    theta: f64,
    inner_size: usize,
    epsilon: f64,
) -> DecoderConfig {
    let norm = NormConfig::Rms {
        epsilon,
        offset: 0.0,
    };
    let rotary = RotaryConfig::new(attention.head_dim()).with_theta(theta);
    let plain = SelfAttentionConfig::new(attention.hidden_size, attention.heads)
        .with_kv_heads(attention.kv_heads)
        .with_head_dim(attention.head_dim)
        .with_causal(true)
        .with_position(PositionEncoding::Rotary(rotary));
    let mlp = FeedForwardConfig::Gated(GatedMlpConfig::new(attention.hidden_size, inner_size));
    let layer = DecoderLayerConfig::new(plain, mlp, norm);
    DecoderConfig::new(config.vocabulary, vec![layer; config.layers.len()], norm)
        .with_tied_head(config.tied_head)
}
