//! What diffusers' `config.json` says of the UNets.

use std::path::Path;

use burn::tensor::Device;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Stages, UNet2DConditionConfig, UNet2DConditionModel, UNet2DConfig, UNet2DModel};
use crate::models::checkpoint::CheckpointError;
use crate::models::diffusion::blocks::TimeProjection;
use crate::models::diffusion::folder::{DiffusersFolder, Offered, offered};

/// Levels without and with attention, on the way down and up.
const DOWN: [&str; 2] = ["DownBlock2D", "AttnDownBlock2D"];
const UP: [&str; 2] = ["UpBlock2D", "AttnUpBlock2D"];
const CROSS_DOWN: [&str; 2] = ["DownBlock2D", "CrossAttnDownBlock2D"];
const CROSS_UP: [&str; 2] = ["UpBlock2D", "CrossAttnUpBlock2D"];

/// Options of both that have other values than these, of which nothing is offered.
const SHARED: [Offered; 12] = [
    offered("act_fn", &["\"silu\"", "\"swish\""]),
    offered("center_input_sample", &["false"]),
    offered("class_embed_type", &[]),
    offered("downsample_padding", &["1"]),
    offered("downsample_type", &["\"conv\""]),
    offered("upsample_type", &["\"conv\""]),
    offered("mid_block_scale_factor", &["1", "1.0"]),
    offered("resnet_time_scale_shift", &["\"default\""]),
    offered("time_embedding_dim", &[]),
    offered("time_embedding_type", &["\"positional\""]),
    offered("dropout", &["0", "0.0"]),
    offered("attn_norm_num_groups", &[]),
];

/// Those of `UNet2DConditionModel` alone.
const CONDITIONAL: [Offered; 19] = [
    offered("addition_embed_type", &[]),
    offered("attention_type", &["\"default\""]),
    offered("class_embeddings_concat", &["false"]),
    offered("conv_in_kernel", &["3"]),
    offered("conv_out_kernel", &["3"]),
    offered("cross_attention_norm", &[]),
    offered("dual_cross_attention", &["false"]),
    offered("encoder_hid_dim", &[]),
    offered("encoder_hid_dim_type", &[]),
    offered("mid_block_only_cross_attention", &["false"]),
    offered("mid_block_type", &["\"UNetMidBlock2DCrossAttn\""]),
    offered("num_class_embeds", &[]),
    offered("only_cross_attention", &["false"]),
    offered("resnet_out_scale_factor", &["1", "1.0"]),
    offered("resnet_skip_time_act", &["false"]),
    offered("reverse_transformer_layers_per_block", &[]),
    offered("time_cond_proj_dim", &[]),
    offered("time_embedding_act_fn", &[]),
    offered("timestep_post_act", &[]),
];

/// The fields that are read, with diffusers' defaults.
#[derive(Debug, Deserialize)]
struct UNetFile {
    in_channels: usize,
    out_channels: usize,
    block_out_channels: Vec<usize>,
    layers_per_block: usize,
    down_block_types: Vec<String>,
    up_block_types: Vec<String>,
    #[serde(default = "groups")]
    norm_num_groups: usize,
    #[serde(default = "epsilon")]
    norm_eps: f64,
    #[serde(default = "yes")]
    flip_sin_to_cos: bool,
    #[serde(default)]
    freq_shift: f64,
    #[serde(default = "yes")]
    add_attention: bool,
    attention_head_dim: Option<Levels>,
    num_attention_heads: Option<Levels>,
    transformer_layers_per_block: Option<Levels>,
    cross_attention_dim: Option<usize>,
    num_class_embeds: Option<usize>,
    sample_size: Option<usize>,
}

/// A number for all levels, or one for each.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Levels {
    All(usize),
    Each(Vec<usize>),
}

impl Levels {
    fn into_vec(self) -> Vec<usize> {
        match self {
            Self::All(number) => vec![number],
            Self::Each(numbers) => numbers,
        }
    }
}

fn groups() -> usize {
    32
}

fn epsilon() -> f64 {
    1e-5
}

fn yes() -> bool {
    true
}

impl UNetFile {
    /// `blocks` are the names of levels without and with attention.
    fn stages(
        &self,
        folder: &DiffusersFolder,
        down: [&str; 2],
        up: [&str; 2],
    ) -> Result<Stages, CheckpointError> {
        let attention = |option, given: &[String], known: [&str; 2]| {
            let one = |name: &String| match known.iter().position(|known| known == name) {
                Some(index) => Ok(index == 1),
                None => Err(folder.invalid(format!(
                    "`{option}` has \"{name}\"; accepted: {}",
                    known.join(", ")
                ))),
            };
            given.iter().map(one).collect::<Result<Vec<_>, _>>()
        };
        Ok(Stages {
            channels: self.block_out_channels.clone(),
            layers: self.layers_per_block,
            down_attention: attention("down_block_types", &self.down_block_types, down)?,
            up_attention: attention("up_block_types", &self.up_block_types, up)?,
            norm_groups: self.norm_num_groups,
            norm_epsilon: self.norm_eps,
        })
    }

    fn time(&self) -> TimeProjection {
        TimeProjection {
            cosine_first: self.flip_sin_to_cos,
            frequency_shift: self.freq_shift,
        }
    }
}

pub(super) fn load_unconditional(
    folder: &Path,
    device: &Device,
) -> Result<UNet2DModel, CheckpointError> {
    let folder = DiffusersFolder::open(folder, &["UNet2DModel"])?;
    let file: UNetFile = folder.config(&SHARED)?;
    let stages = file.stages(&folder, DOWN, UP)?;
    let time = file.time();
    let head_dim = match file.attention_head_dim {
        Some(Levels::Each(_)) => {
            return Err(folder.invalid("`attention_head_dim` is a list; accepted: a number"));
        }
        Some(Levels::All(width)) => Some(width),
        None => None,
    };
    let config = UNet2DConfig::new(file.in_channels, file.out_channels, stages)
        .with_head_dim(head_dim)
        .with_middle_attention(file.add_attention)
        .with_classes(file.num_class_embeds)
        .with_time(time);
    let model = config
        .try_init(device)
        .map_err(|error| folder.invalid(error))?;
    folder.load(model)
}

pub(super) fn load_conditional(
    folder: &Path,
    device: &Device,
) -> Result<UNet2DConditionModel, CheckpointError> {
    let folder = DiffusersFolder::open(folder, &["UNet2DConditionModel"])?;
    folder.config::<Value>(&SHARED)?;
    let file: UNetFile = folder.config(&CONDITIONAL)?;
    let stages = file.stages(&folder, CROSS_DOWN, CROSS_UP)?;
    let time = file.time();
    let Some(text_width) = file.cross_attention_dim else {
        return Err(folder.invalid("`cross_attention_dim` is absent; accepted: a number"));
    };
    // What diffusers calls the width of a head in this class has always been the number of heads.
    let heads = file.num_attention_heads.or(file.attention_head_dim);
    let one = |levels: Option<Levels>, default| levels.map_or(vec![default], Levels::into_vec);
    let config =
        UNet2DConditionConfig::new(file.in_channels, file.out_channels, stages, text_width)
            .with_heads(one(heads, 8))
            .with_transformer_layers(one(file.transformer_layers_per_block, 1))
            .with_time(time)
            .with_sample_size(file.sample_size.unwrap_or(64));
    let model = config
        .try_init(device)
        .map_err(|error| folder.invalid(error))?;
    folder.load(model)
}

/// `config.json` of such a model.
pub(super) fn unconditional(config: &UNet2DConfig) -> Value {
    let mut file = shared(&config.stages, &config.time, DOWN, UP);
    file["_class_name"] = "UNet2DModel".into();
    file["in_channels"] = config.inputs.into();
    file["out_channels"] = config.outputs.into();
    file["attention_head_dim"] = config.head_dim.into();
    file["add_attention"] = config.middle_attention.into();
    file["num_class_embeds"] = config.classes.into();
    file
}

/// `config.json` of such a model.
pub(super) fn conditional(config: &UNet2DConditionConfig) -> Value {
    let mut file = shared(&config.stages, &config.time, CROSS_DOWN, CROSS_UP);
    let levels = config.stages.channels.len();
    let each = |numbers: &[usize]| match numbers {
        [one] => vec![*one; levels],
        several => several.to_vec(),
    };
    file["_class_name"] = "UNet2DConditionModel".into();
    file["in_channels"] = config.inputs.into();
    file["out_channels"] = config.outputs.into();
    file["attention_head_dim"] = each(&config.heads).into();
    file["transformer_layers_per_block"] = each(&config.transformer_layers).into();
    file["cross_attention_dim"] = config.text_width.into();
    file["sample_size"] = config.sample_size.into();
    file["use_linear_projection"] = true.into();
    file
}

fn shared(stages: &Stages, time: &TimeProjection, down: [&str; 2], up: [&str; 2]) -> Value {
    let names = |attention: &[bool], known: [&str; 2]| {
        let name = |with: &bool| known[usize::from(*with)].to_string();
        attention.iter().map(name).collect::<Vec<_>>()
    };
    json!({
        "block_out_channels": stages.channels,
        "layers_per_block": stages.layers,
        "down_block_types": names(&stages.down_attention, down),
        "up_block_types": names(&stages.up_attention, up),
        "norm_num_groups": stages.norm_groups,
        "norm_eps": stages.norm_epsilon,
        "flip_sin_to_cos": time.cosine_first,
        "freq_shift": time.frequency_shift,
    })
}
