//! `BeitForImageClassification`, `BeitModel` and their Data2Vec siblings of transformers.

use serde::Deserialize;

use super::super::{FinalNorm, Head, RelativePositions, VisionTransformerConfig};
use super::{Family, hugging_face::HuggingFaceConfig};
use crate::models::checkpoint::{Checkpoint, CheckpointError, NameTable, Source::Whole, Weights};

pub(super) const FAMILY: Family = Family {
    classes: &[
        "BeitForImageClassification",
        "BeitModel",
        "Data2VecVisionForImageClassification",
        "Data2VecVisionModel",
    ],
    config,
    names: NameTable {
        prefixes: &["beit.", "data2vec_vision."],
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
            (
                "position_table.table",
                Whole("encoder.relative_position_bias.relative_position_bias_table"),
            ),
            (
                "layers.{}.position_table.table",
                Whole(
                    "encoder.layer.{}.attention.attention.relative_position_bias.relative_position_bias_table",
                ),
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
                "layers.{}.scale_attention",
                Whole("encoder.layer.{}.lambda_1"),
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
            ("layers.{}.scale_mlp", Whole("encoder.layer.{}.lambda_2")),
            // With mean pooling, the pooler has the norm; without, the encoder.
            ("norm", Whole("pooler.layernorm")),
            ("norm", Whole("layernorm")),
        ],
        heads: &[("head", Whole("classifier"))],
        ignored: &["embeddings.mask_token", "*relative_position_index"],
    },
};

/// What only BEiT's configuration has, with transformers' defaults.
#[derive(Debug, Deserialize)]
struct BeitConfig {
    #[serde(default)]
    use_absolute_position_embeddings: bool,
    #[serde(default)]
    use_relative_position_bias: bool,
    #[serde(default)]
    use_shared_relative_position_bias: bool,
    #[serde(default = "yes")]
    use_mean_pooling: bool,
    #[serde(default = "tenth")]
    layer_scale_init_value: f64,
}

fn yes() -> bool {
    true
}

fn tenth() -> f64 {
    0.1
}

fn config(
    checkpoint: &Checkpoint,
    _weights: &Weights,
) -> Result<VisionTransformerConfig, CheckpointError> {
    let file: HuggingFaceConfig = checkpoint.config()?;
    let beit: BeitConfig = checkpoint.config()?;
    let relative_positions = match (
        beit.use_relative_position_bias,
        beit.use_shared_relative_position_bias,
    ) {
        (true, true) => {
            return Err(checkpoint.invalid_config(
                "`use_relative_position_bias` and `use_shared_relative_position_bias` are true; \
                 accepted: one of them",
            ));
        }
        (true, false) => RelativePositions::PerLayer,
        (false, true) => RelativePositions::Shared,
        (false, false) => RelativePositions::None,
    };
    let class = checkpoint.architecture().unwrap_or_default();
    let head = if class.ends_with("ForImageClassification") {
        Head::ClassToken {
            outputs: file.labels(),
            bias: true,
        }
    } else {
        Head::None
    };
    let final_norm = if beit.use_mean_pooling {
        FinalNorm::PatchMean
    } else {
        FinalNorm::AllTokens
    };
    let scale = beit.layer_scale_init_value;
    Ok(file
        .sizes(checkpoint)?
        .with_key_bias(false)
        .with_absolute_positions(beit.use_absolute_position_embeddings)
        .with_relative_positions(relative_positions)
        .with_layer_scale((scale > 0.0).then_some(scale))
        .with_final_norm(final_norm)
        .with_head(head))
}
