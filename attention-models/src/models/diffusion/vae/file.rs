//! What diffusers' `config.json` says of the autoencoder.

use serde::Deserialize;
use serde_json::{Value, json};

use super::AutoencoderKlConfig;
use crate::models::diffusion::folder::{Offered, offered};

/// Options of which nothing else is offered.
pub(super) const OFFERED: [Offered; 4] = [
    offered("act_fn", &["\"silu\"", "\"swish\""]),
    offered("latents_mean", &[]),
    offered("latents_std", &[]),
    offered("shift_factor", &[]),
];

/// The fields that are read, with diffusers' defaults.
#[derive(Debug, Deserialize)]
pub(super) struct AutoencoderFile {
    block_out_channels: Vec<usize>,
    layers_per_block: usize,
    in_channels: usize,
    latent_channels: usize,
    #[serde(default = "groups")]
    norm_num_groups: usize,
    #[serde(default = "yes")]
    mid_block_add_attention: bool,
    #[serde(default = "yes")]
    use_quant_conv: bool,
    #[serde(default = "yes")]
    use_post_quant_conv: bool,
    #[serde(default = "scaling")]
    scaling_factor: f64,
}

fn groups() -> usize {
    32
}

fn yes() -> bool {
    true
}

fn scaling() -> f64 {
    0.18215
}

impl AutoencoderFile {
    pub(super) fn config(&self) -> AutoencoderKlConfig {
        AutoencoderKlConfig::new(self.block_out_channels.clone(), self.layers_per_block)
            .with_image_channels(self.in_channels)
            .with_latent_channels(self.latent_channels)
            .with_norm_groups(self.norm_num_groups)
            .with_middle_attention(self.mid_block_add_attention)
            .with_quant_conv([self.use_quant_conv, self.use_post_quant_conv])
            .with_scaling_factor(self.scaling_factor)
    }
}

/// `config.json` of such an autoencoder.
pub(super) fn of(config: &AutoencoderKlConfig) -> Value {
    let levels = config.channels.len();
    json!({
        "_class_name": "AutoencoderKL",
        "block_out_channels": config.channels,
        "down_block_types": vec!["DownEncoderBlock2D"; levels],
        "up_block_types": vec!["UpDecoderBlock2D"; levels],
        "layers_per_block": config.layers,
        "in_channels": config.image_channels,
        "out_channels": config.image_channels,
        "latent_channels": config.latent_channels,
        "norm_num_groups": config.norm_groups,
        "mid_block_add_attention": config.middle_attention,
        "use_quant_conv": config.quant_conv[0],
        "use_post_quant_conv": config.quant_conv[1],
        "scaling_factor": config.scaling_factor,
    })
}
