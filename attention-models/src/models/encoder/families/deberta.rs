//! `DebertaV2Model` of transformers, which DeBERTa-v3 is too.

use std::path::Path;

use burn::tensor::Device;
use serde::Deserialize;

use super::super::{Deberta, DebertaConfig};
use super::hugging_face::HuggingFaceConfig;
use crate::models::checkpoint::{Checkpoint, CheckpointError, NameTable, Source::Whole};

const CLASS: &str = "DebertaV2Model";

const NAMES: NameTable = NameTable {
    prefixes: &["deberta."],
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
        ("distances", Whole("encoder.rel_embeddings")),
        ("distance_norm", Whole("encoder.LayerNorm")),
        (
            "layers.{}.attention.content.query",
            Whole("encoder.layer.{}.attention.self.query_proj"),
        ),
        (
            "layers.{}.attention.content.key",
            Whole("encoder.layer.{}.attention.self.key_proj"),
        ),
        (
            "layers.{}.attention.content.value",
            Whole("encoder.layer.{}.attention.self.value_proj"),
        ),
        (
            "layers.{}.attention.content.output",
            Whole("encoder.layer.{}.attention.output.dense"),
        ),
        (
            "layers.{}.attention.position_key",
            Whole("encoder.layer.{}.attention.self.pos_key_proj"),
        ),
        (
            "layers.{}.attention.position_query",
            Whole("encoder.layer.{}.attention.self.pos_query_proj"),
        ),
        (
            "layers.{}.norm_attention",
            Whole("encoder.layer.{}.attention.output.LayerNorm"),
        ),
        (
            "layers.{}.mlp.inner",
            Whole("encoder.layer.{}.intermediate.dense"),
        ),
        (
            "layers.{}.mlp.outer",
            Whole("encoder.layer.{}.output.dense"),
        ),
        (
            "layers.{}.norm_mlp",
            Whole("encoder.layer.{}.output.LayerNorm"),
        ),
    ],
    heads: &[],
    ignored: &["embeddings.position_ids"],
};

/// The fields that are read beside BERT's.
#[derive(Debug, Deserialize)]
struct File {
    #[serde(default)]
    relative_attention: bool,
    #[serde(default = "unlimited")]
    max_relative_positions: i64,
    #[serde(default = "unlimited")]
    position_buckets: i64,
    #[serde(default = "yes")]
    position_biased_input: bool,
    pos_att_type: Option<Kinds>,
    #[serde(default)]
    share_att_key: bool,
    #[serde(default)]
    norm_rel_ebd: String,
    #[serde(default)]
    conv_kernel_size: usize,
}

/// `"p2c|c2p"` or a list.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Kinds {
    Joined(String),
    List(Vec<String>),
}

fn unlimited() -> i64 {
    -1
}

fn yes() -> bool {
    true
}

impl Kinds {
    fn are_both(&self) -> bool {
        let mut kinds: Vec<_> = match self {
            Self::Joined(kinds) => kinds.split('|').map(str::trim).collect(),
            Self::List(kinds) => kinds.iter().map(String::as_str).collect(),
        };
        kinds.sort_unstable();
        kinds == ["c2p", "p2c"]
    }
}

pub(in super::super) fn load(folder: &Path, device: &Device) -> Result<Deberta, CheckpointError> {
    let checkpoint = Checkpoint::open(folder)?;
    if checkpoint.architecture() != Some(CLASS) {
        return Err(checkpoint.wrong_architecture(vec![CLASS]));
    }
    let weights = checkpoint.weights()?;
    let model = config(&checkpoint)?
        .try_init(device)
        .map_err(|error| checkpoint.invalid_config(error))?;
    let mut model = weights.load_into(model, &NAMES)?;
    model.format = Some(checkpoint.format(&weights, &NAMES));
    Ok(model)
}

fn config(checkpoint: &Checkpoint) -> Result<DebertaConfig, CheckpointError> {
    let (sizes, file): (HuggingFaceConfig, File) = (checkpoint.config()?, checkpoint.config()?);
    if !file.relative_attention || !file.pos_att_type.as_ref().is_some_and(Kinds::are_both) {
        let reason = "accepted: `relative_attention` with `pos_att_type` of both c2p and p2c";
        return Err(checkpoint.invalid_config(reason));
    }
    if file.conv_kernel_size > 0 {
        return Err(checkpoint.invalid_config("`conv_kernel_size` is not 0; accepted: 0"));
    }
    if sizes
        .embedding_size
        .is_some_and(|size| size != sizes.hidden_size)
    {
        let reason = "`embedding_size` is not `hidden_size`; accepted: the same";
        return Err(checkpoint.invalid_config(reason));
    }
    let positions = sizes.max_position_embeddings;
    let config = DebertaConfig::new(
        sizes.vocab_size,
        usize::try_from(file.max_relative_positions)
            .ok()
            .filter(|distance| *distance > 0)
            .unwrap_or(positions),
        sizes.hidden_size,
        sizes.num_hidden_layers,
        sizes.num_attention_heads,
        sizes.intermediate_size,
    );
    Ok(config
        .with_position_buckets(usize::try_from(file.position_buckets).unwrap_or(0))
        .with_absolute_positions(file.position_biased_input.then_some(positions))
        .with_segments(sizes.type_vocab_size)
        .with_shared_projections(file.share_att_key)
        .with_distance_norm(file.norm_rel_ebd.contains("layer_norm"))
        .with_activation(sizes.hidden_act)
        .with_norm_epsilon(sizes.layer_norm_eps))
}
