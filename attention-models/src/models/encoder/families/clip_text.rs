//! `CLIPTextModel` and `CLIPTextModelWithProjection` of transformers, the text encoders of Stable Diffusion among
//! them.

use serde::Deserialize;

use super::super::{EncoderConfig, NormPlacement, Pooling};
use super::Family;
use crate::models::blocks::Activation;
use crate::models::checkpoint::{Checkpoint, CheckpointError, NameTable, Source::Whole, Weights};

const WITH_PROJECTION: &str = "CLIPTextModelWithProjection";

/// The number that configurations of before 2023 give to the end-of-text token, whatever it is.
const WRONG_END_OF_TEXT: usize = 2;

pub(super) const FAMILY: Family = Family {
    classes: &["CLIPTextModel", WITH_PROJECTION],
    config,
    names: NameTable {
        prefixes: &["text_model."],
        backbone: &[
            ("embeddings.word", Whole("embeddings.token_embedding")),
            (
                "embeddings.positions",
                Whole("embeddings.position_embedding"),
            ),
            (
                "layers.{}.attention.query",
                Whole("encoder.layers.{}.self_attn.q_proj"),
            ),
            (
                "layers.{}.attention.key",
                Whole("encoder.layers.{}.self_attn.k_proj"),
            ),
            (
                "layers.{}.attention.value",
                Whole("encoder.layers.{}.self_attn.v_proj"),
            ),
            (
                "layers.{}.attention.output",
                Whole("encoder.layers.{}.self_attn.out_proj"),
            ),
            (
                "layers.{}.norm_attention",
                Whole("encoder.layers.{}.layer_norm1"),
            ),
            (
                "layers.{}.mlp.Plain.inner",
                Whole("encoder.layers.{}.mlp.fc1"),
            ),
            (
                "layers.{}.mlp.Plain.outer",
                Whole("encoder.layers.{}.mlp.fc2"),
            ),
            ("layers.{}.norm_mlp", Whole("encoder.layers.{}.layer_norm2")),
            ("norm", Whole("final_layer_norm")),
        ],
        heads: &[("projection", Whole("text_projection"))],
        // The other tower, where a file has both.
        ignored: &[
            "embeddings.position_ids",
            "vision_model.*",
            "visual_projection.weight",
            "logit_scale",
        ],
    },
};

/// The fields that are read, with CLIP's defaults.
#[derive(Debug, Deserialize)]
struct File {
    vocab_size: usize,
    #[serde(default = "positions")]
    max_position_embeddings: usize,
    hidden_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    intermediate_size: usize,
    #[serde(default = "quick_gelu")]
    hidden_act: Activation,
    #[serde(default = "epsilon")]
    layer_norm_eps: f64,
    #[serde(default = "end_of_text")]
    eos_token_id: usize,
    projection_dim: Option<usize>,
}

fn positions() -> usize {
    77
}

fn quick_gelu() -> Activation {
    Activation::QuickGelu
}

fn epsilon() -> f64 {
    1e-5
}

fn end_of_text() -> usize {
    49_407
}

fn config(checkpoint: &Checkpoint, _weights: &Weights) -> Result<EncoderConfig, CheckpointError> {
    let file: File = checkpoint.config()?;
    let projection = match (checkpoint.architecture(), file.projection_dim) {
        (Some(WITH_PROJECTION), None) => {
            return Err(checkpoint.invalid_config("missing field `projection_dim`"));
        }
        (Some(WITH_PROJECTION), width) => width,
        _ => None,
    };
    let config = EncoderConfig::new(
        file.vocab_size,
        file.max_position_embeddings,
        file.hidden_size,
        file.num_hidden_layers,
        file.num_attention_heads,
        file.intermediate_size,
    );
    Ok(config
        .with_causal(true)
        .with_embedding_norm(false)
        .with_norm_placement(NormPlacement::Before)
        .with_norm_epsilon(file.layer_norm_eps)
        .with_final_norm(true)
        .with_activation(file.hidden_act)
        .with_pooling(Pooling::EndOfText {
            token: (file.eos_token_id != WRONG_END_OF_TEXT).then_some(file.eos_token_id),
        })
        .with_projection(projection))
}
