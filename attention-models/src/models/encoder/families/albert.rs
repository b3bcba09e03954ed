//! `AlbertModel` of transformers; the heads of its training are left out.

use serde::Deserialize;

use super::super::{EncoderConfig, Pooling};
use super::{Family, hugging_face::HuggingFaceConfig};
use crate::models::checkpoint::{Checkpoint, CheckpointError, NameTable, Source::Whole, Weights};

pub(super) const FAMILY: Family = Family {
    classes: &["AlbertModel", "AlbertForMaskedLM", "AlbertForPreTraining"],
    config,
    names: NameTable {
        prefixes: &["albert."],
        backbone: &[
            ("embeddings.word", Whole("embeddings.word_embeddings")),
            (
                "embeddings.positions",
                Whole("embeddings.position_embeddings"),
            ),
            (
                "embeddings.segments",
                Whole("embeddings.token_type_embeddings"),
            ),
            ("embeddings.norm", Whole("embeddings.LayerNorm")),
            (
                "embeddings.projection",
                Whole("encoder.embedding_hidden_mapping_in"),
            ),
            (
                "layers.{}.attention.query",
                Whole("encoder.albert_layer_groups.{}.albert_layers.0.attention.query"),
            ),
            (
                "layers.{}.attention.key",
                Whole("encoder.albert_layer_groups.{}.albert_layers.0.attention.key"),
            ),
            (
                "layers.{}.attention.value",
                Whole("encoder.albert_layer_groups.{}.albert_layers.0.attention.value"),
            ),
            (
                "layers.{}.attention.output",
                Whole("encoder.albert_layer_groups.{}.albert_layers.0.attention.dense"),
            ),
            (
                "layers.{}.norm_attention",
                Whole("encoder.albert_layer_groups.{}.albert_layers.0.attention.LayerNorm"),
            ),
            (
                "layers.{}.mlp.Plain.inner",
                Whole("encoder.albert_layer_groups.{}.albert_layers.0.ffn"),
            ),
            (
                "layers.{}.mlp.Plain.outer",
                Whole("encoder.albert_layer_groups.{}.albert_layers.0.ffn_output"),
            ),
            (
                "layers.{}.norm_mlp",
                Whole("encoder.albert_layer_groups.{}.albert_layers.0.full_layer_layer_norm"),
            ),
        ],
        heads: &[],
        ignored: &[
            "embeddings.position_ids",
            "predictions.*",
            "sop_classifier.*",
        ],
    },
};

#[derive(Debug, Deserialize)]
struct Groups {
    #[serde(default = "one")]
    num_hidden_groups: usize,
    #[serde(default = "one")]
    inner_group_num: usize,
}

fn one() -> usize {
    1
}

fn config(checkpoint: &Checkpoint, weights: &Weights) -> Result<EncoderConfig, CheckpointError> {
    let file: HuggingFaceConfig = checkpoint.config()?;
    let groups: Groups = checkpoint.config()?;
    if groups.inner_group_num != 1 {
        let reason = format!(
            "`inner_group_num` is {}; accepted: 1",
            groups.inner_group_num
        );
        return Err(checkpoint.invalid_config(reason));
    }
    let pooler = ["pooler.weight", "albert.pooler.weight"];
    let pooling = match pooler.iter().any(|name| weights.contains(name)) {
        true => Pooling::FirstToken,
        false => Pooling::None,
    };
    Ok(file
        .sizes()
        .with_embedding_size(Some(file.embedding_size.unwrap_or(128)))
        .with_distinct_layers(Some(groups.num_hidden_groups))
        .with_pooling(pooling))
}
