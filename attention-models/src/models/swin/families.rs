//! How transformers' checkpoints of Swin and Swin v2 are read.

use std::collections::BTreeMap;
use std::path::Path;

use burn::tensor::Device;
use serde::Deserialize;
use serde_json::json;

use super::{SwinConfig, SwinTransformer, SwinVersion};
use crate::models::checkpoint::{Checkpoint, CheckpointError, Format, NameTable, Source::Whole};
use crate::models::vit::Activation;

const V1: [&str; 2] = ["SwinForImageClassification", "SwinModel"];
const V2: [&str; 2] = ["Swinv2ForImageClassification", "Swinv2Model"];

const NAMES: NameTable = NameTable {
    prefixes: &["swin.", "swinv2."],
    backbone: &[
        (
            "embeddings.projection",
            Whole("embeddings.patch_embeddings.projection"),
        ),
        (
            "embeddings.positions",
            Whole("embeddings.position_embeddings"),
        ),
        (
            "stages.{}.blocks.{}.norm_attention",
            Whole("encoder.layers.{}.blocks.{}.layernorm_before"),
        ),
        (
            "stages.{}.blocks.{}.attention.query",
            Whole("encoder.layers.{}.blocks.{}.attention.self.query"),
        ),
        (
            "stages.{}.blocks.{}.attention.key",
            Whole("encoder.layers.{}.blocks.{}.attention.self.key"),
        ),
        (
            "stages.{}.blocks.{}.attention.value",
            Whole("encoder.layers.{}.blocks.{}.attention.self.value"),
        ),
        (
            "stages.{}.blocks.{}.attention.output",
            Whole("encoder.layers.{}.blocks.{}.attention.output.dense"),
        ),
        (
            "stages.{}.blocks.{}.attention.position_table",
            Whole("encoder.layers.{}.blocks.{}.attention.self.relative_position_bias_table"),
        ),
        (
            "stages.{}.blocks.{}.attention.cosine.logit_scale",
            Whole("encoder.layers.{}.blocks.{}.attention.self.logit_scale"),
        ),
        (
            "stages.{}.blocks.{}.attention.cosine.inner",
            Whole("encoder.layers.{}.blocks.{}.attention.self.continuous_position_bias_mlp.0"),
        ),
        (
            "stages.{}.blocks.{}.attention.cosine.outer",
            Whole("encoder.layers.{}.blocks.{}.attention.self.continuous_position_bias_mlp.2"),
        ),
        (
            "stages.{}.blocks.{}.norm_mlp",
            Whole("encoder.layers.{}.blocks.{}.layernorm_after"),
        ),
        (
            "stages.{}.blocks.{}.mlp.inner",
            Whole("encoder.layers.{}.blocks.{}.intermediate.dense"),
        ),
        (
            "stages.{}.blocks.{}.mlp.outer",
            Whole("encoder.layers.{}.blocks.{}.output.dense"),
        ),
        ("stages.{}.merging", Whole("encoder.layers.{}.downsample")),
        ("norm", Whole("layernorm")),
    ],
    heads: &[("head", Whole("classifier"))],
    // What older versions stored although it follows from the sizes.
    ignored: &[
        "embeddings.mask_token",
        "*relative_position_index",
        "*relative_coords_table",
    ],
};

/// The fields of `config.json` that are read.
#[derive(Debug, Deserialize)]
struct SwinFile {
    image_size: usize,
    patch_size: usize,
    embed_dim: usize,
    depths: Vec<usize>,
    num_heads: Vec<usize>,
    window_size: usize,
    #[serde(default)]
    pretrained_window_sizes: Vec<usize>,
    #[serde(default = "three")]
    num_channels: usize,
    #[serde(default = "four")]
    mlp_ratio: f64,
    #[serde(default = "yes")]
    qkv_bias: bool,
    #[serde(default)]
    use_absolute_embeddings: bool,
    #[serde(default)]
    hidden_act: Activation,
    layer_norm_eps: f64,
    id2label: Option<BTreeMap<String, serde_json::Value>>,
}

fn three() -> usize {
    3
}

fn four() -> f64 {
    4.0
}

fn yes() -> bool {
    true
}

pub(super) fn load(folder: &Path, device: &Device) -> Result<SwinTransformer, CheckpointError> {
    let checkpoint = Checkpoint::open(folder)?;
    let class = checkpoint.architecture().unwrap_or_default();
    let version = if V1.contains(&class) {
        SwinVersion::V1
    } else if V2.contains(&class) {
        SwinVersion::V2
    } else {
        return Err(checkpoint.wrong_architecture([V1, V2].concat()));
    };
    let file: SwinFile = checkpoint.config()?;
    let labels = class
        .ends_with("ForImageClassification")
        .then(|| file.id2label.as_ref().map_or(2, BTreeMap::len));
    let config = SwinConfig::new(
        file.image_size,
        file.patch_size,
        file.embed_dim,
        file.depths,
        file.num_heads,
        file.window_size,
    )
    .with_version(version)
    .with_pretrained_windows(file.pretrained_window_sizes)
    .with_channels(file.num_channels)
    .with_mlp_ratio(file.mlp_ratio)
    .with_qkv_bias(file.qkv_bias)
    .with_absolute_positions(file.use_absolute_embeddings)
    .with_activation(file.hidden_act)
    .with_norm_epsilon(file.layer_norm_eps)
    .with_labels(labels);
    let model = config
        .try_init(device)
        .map_err(|error| checkpoint.invalid_config(error))?;
    let weights = checkpoint.weights()?;
    let mut model = weights.load_into(model, &NAMES)?;
    model.format = Some(checkpoint.format(&weights, &NAMES));
    Ok(model)
}

/// How a model of this configuration is written, whatever made it.
pub(super) fn format(config: &SwinConfig) -> Format {
    let (kind, classes, prefix) = match config.version {
        SwinVersion::V1 => ("swin", V1, "swin."),
        SwinVersion::V2 => ("swinv2", V2, "swinv2."),
    };
    let class = classes[usize::from(config.labels.is_none())];
    let labels = 0..config.labels.unwrap_or(0);
    let names: serde_json::Map<_, _> = labels
        .map(|label| (label.to_string(), json!(label.to_string())))
        .collect();
    let file = json!({
        "architectures": [class],
        "model_type": kind,
        "depths": config.depths,
        "dtype": "float32",
        "embed_dim": config.embed_dim,
        "hidden_act": match config.activation {
            Activation::Gelu => "gelu",
            Activation::QuickGelu => "quick_gelu",
        },
        "hidden_size": config.width(config.depths.len() - 1),
        "id2label": names,
        "image_size": config.image_size,
        "layer_norm_eps": config.norm_epsilon,
        "mlp_ratio": config.mlp_ratio,
        "num_channels": config.channels,
        "num_heads": config.heads,
        "patch_size": config.patch_size,
        "pretrained_window_sizes": config.pretrained_windows,
        "qkv_bias": config.qkv_bias,
        "use_absolute_embeddings": config.absolute_positions,
        "window_size": config.window,
    });
    let prefix = if config.labels.is_some() { prefix } else { "" };
    Format::new(file, NAMES).with_prefix(prefix)
}
