//! The `config.json` that the conversion of terrain's weights writes, and the names of the layers.

use std::path::Path;

use burn::tensor::Device;
use serde::Deserialize;
use serde_json::Value;

use super::{GuidedUNet, GuidedUNetConfig};
use crate::models::checkpoint::{
    Checkpoint, CheckpointError, NameTable,
    Source::{self, Whole},
};
use crate::models::diffusion::folder::{Offered, offered};

/// How `architecture` begins in the file.
const ARCHITECTURE: &str = "guided-diffusion UNet";

/// Options of which nothing else is offered.
const OFFERED: [Offered; 3] = [
    offered("resblock_updown", &["true"]),
    offered("use_scale_shift_norm", &["true"]),
    offered("use_new_attention_order", &["true"]),
];

/// Kinds of layers are told apart here, and not in the file.
const NAMES: NameTable = NameTable {
    prefixes: &[],
    backbone: &[
        layer("input_blocks.{}.{}.Convolution", "input_blocks.{}.{}"),
        layer("input_blocks.{}.{}.Residual", "input_blocks.{}.{}"),
        layer("input_blocks.{}.{}.Attention", "input_blocks.{}.{}"),
        layer("output_blocks.{}.{}.Residual", "output_blocks.{}.{}"),
        layer("output_blocks.{}.{}.Attention", "output_blocks.{}.{}"),
    ],
    heads: &[],
    ignored: &[],
};

const fn layer(module: &'static str, file: &'static str) -> (&'static str, Source) {
    (module, Whole(file))
}

/// The fields that are read.
#[derive(Debug, Deserialize)]
struct GuidedFile {
    image_size: usize,
    in_channels: usize,
    out_channels: usize,
    model_channels: usize,
    channel_mult: Vec<usize>,
    num_res_blocks: usize,
    attention_levels: Vec<usize>,
    num_head_channels: usize,
    norm_groups: usize,
    norm_eps: f64,
    sigma_min: f64,
    sigma_max: f64,
    sigma_data: f64,
}

pub(super) fn load(folder: &Path, device: &Device) -> Result<GuidedUNet, CheckpointError> {
    let checkpoint = Checkpoint::open(folder)?;
    let options: Value = checkpoint.config()?;
    let architecture = options["architecture"].as_str().unwrap_or_default();
    if !architecture.starts_with(ARCHITECTURE) {
        return Err(checkpoint.wrong_architecture(vec![ARCHITECTURE]));
    }
    for option in &OFFERED {
        option
            .check(&options)
            .map_err(|reason| checkpoint.invalid_config(reason))?;
    }
    let file: GuidedFile = checkpoint.config()?;
    let config = GuidedUNetConfig::new(
        file.model_channels,
        file.channel_mult,
        file.num_res_blocks,
        file.attention_levels,
    );
    let config = config
        .with_inputs(file.in_channels)
        .with_outputs(file.out_channels)
        .with_head_dim(file.num_head_channels)
        .with_norm_groups(file.norm_groups)
        .with_norm_epsilon(file.norm_eps)
        .with_image_size(file.image_size)
        .with_sigma_min(file.sigma_min)
        .with_sigma_max(file.sigma_max)
        .with_sigma_data(file.sigma_data);
    let model = config
        .try_init(device)
        .map_err(|error| checkpoint.invalid_config(error))?;
    let weights = checkpoint.weights()?;
    let mut model = weights.load_into(model, &NAMES)?;
    model.format = Some(checkpoint.format(&weights, &NAMES));
    Ok(model)
}
