//! `BertModel` of transformers, of which MiniLM and other sentence encoders are folders; the heads of its training are
//! left out.

use super::super::{EncoderConfig, Pooling};
use super::{Family, hugging_face::HuggingFaceConfig};
use crate::models::checkpoint::{
    Checkpoint, CheckpointError, NameTable,
    Source::{self, Whole},
    Weights,
};

pub(super) const FAMILY: Family = Family {
    classes: &["BertModel", "BertForMaskedLM", "BertForPreTraining"],
    config,
    names: NameTable {
        prefixes: &["bert."],
        backbone: &BACKBONE,
        heads: &[],
        ignored: &["embeddings.position_ids", "cls.*"],
    },
};

/// The names that BERT and RoFormer share.
pub(super) const BACKBONE: [(&str, Source); 14] = [
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
    ("embeddings.projection", Whole("embeddings_project")),
    (
        "layers.{}.attention.query",
        Whole("encoder.layer.{}.attention.self.query"),
    ),
    (
        "layers.{}.attention.key",
        Whole("encoder.layer.{}.attention.self.key"),
    ),
    (
        "layers.{}.attention.value",
        Whole("encoder.layer.{}.attention.self.value"),
    ),
    (
        "layers.{}.attention.output",
        Whole("encoder.layer.{}.attention.output.dense"),
    ),
    (
        "layers.{}.norm_attention",
        Whole("encoder.layer.{}.attention.output.LayerNorm"),
    ),
    (
        "layers.{}.mlp.Plain.inner",
        Whole("encoder.layer.{}.intermediate.dense"),
    ),
    (
        "layers.{}.mlp.Plain.outer",
        Whole("encoder.layer.{}.output.dense"),
    ),
    (
        "layers.{}.norm_mlp",
        Whole("encoder.layer.{}.output.LayerNorm"),
    ),
    ("pooler", Whole("pooler.dense")),
];

fn config(checkpoint: &Checkpoint, weights: &Weights) -> Result<EncoderConfig, CheckpointError> {
    let file: HuggingFaceConfig = checkpoint.config()?;
    let pooler = ["pooler.dense.weight", "bert.pooler.dense.weight"];
    let pooling = match pooler.iter().any(|name| weights.contains(name)) {
        true => Pooling::FirstToken,
        false => Pooling::None,
    };
    Ok(file.sizes().with_pooling(pooling))
}
