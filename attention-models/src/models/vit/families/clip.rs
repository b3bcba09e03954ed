//! `CLIPVisionModel` and `CLIPVisionModelWithProjection` of transformers, and the vision tower of
//! `CLIPModel`.

use super::super::{FinalNorm, Head, VisionTransformerConfig};
use super::{Family, hugging_face::HuggingFaceConfig};
use crate::models::checkpoint::{Checkpoint, CheckpointError, NameTable, Source::Whole, Weights};

const WITH_PROJECTION: &str = "CLIPVisionModelWithProjection";

pub(super) const FAMILY: Family = Family {
    classes: &["CLIPVisionModel", WITH_PROJECTION],
    config,
    names: NameTable {
        prefixes: &["vision_model."],
        backbone: &[
            (
                "embeddings.class_token",
                Whole("embeddings.class_embedding"),
            ),
            (
                "embeddings.positions",
                Whole("embeddings.position_embedding.weight"),
            ),
            ("embeddings.projection", Whole("embeddings.patch_embedding")),
            // transformers' own spelling
            ("pre_norm", Whole("pre_layrnorm")),
            (
                "layers.{}.norm_attention",
                Whole("encoder.layers.{}.layer_norm1"),
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
            ("layers.{}.norm_mlp", Whole("encoder.layers.{}.layer_norm2")),
            ("layers.{}.mlp.inner", Whole("encoder.layers.{}.mlp.fc1")),
            ("layers.{}.mlp.outer", Whole("encoder.layers.{}.mlp.fc2")),
            ("norm", Whole("post_layernorm")),
        ],
        heads: &[("head", Whole("visual_projection"))],
        // The other tower, where a file has both.
        ignored: &[
            "embeddings.position_ids",
            "text_model.*",
            "text_projection.weight",
            "logit_scale",
        ],
    },
};

/// The class whose folders hold a text tower too.
pub(super) const BOTH_TOWERS: &str = "CLIPModel";

/// The vision tower of a folder of both.
pub(super) fn tower(checkpoint: &Checkpoint) -> Result<Checkpoint, CheckpointError> {
    #[derive(serde::Deserialize)]
    struct BothTowers {
        projection_dim: usize,
    }
    let BothTowers { projection_dim } = checkpoint.config()?;
    let projection = ("projection_dim", projection_dim.into());
    checkpoint.part("vision_config", WITH_PROJECTION, [projection])
}

fn config(
    checkpoint: &Checkpoint,
    _weights: &Weights,
) -> Result<VisionTransformerConfig, CheckpointError> {
    let file: HuggingFaceConfig = checkpoint.config()?;
    let head = match (checkpoint.architecture(), file.projection_dim) {
        (Some(WITH_PROJECTION), Some(outputs)) => Head::ClassToken {
            outputs,
            bias: false,
        },
        (Some(WITH_PROJECTION), None) => {
            return Err(checkpoint.invalid_config("missing field `projection_dim`"));
        }
        _ => Head::None,
    };
    Ok(file
        .sizes(checkpoint)?
        .with_patch_bias(false)
        .with_pre_norm(true)
        .with_final_norm(FinalNorm::ClassToken)
        .with_head(head))
}
