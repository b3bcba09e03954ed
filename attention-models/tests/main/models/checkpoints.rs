use std::{collections::HashMap, fs, path::Path};

use attention_models::models::{
    checkpoint::{Checkpoint, CheckpointError, TensorProblem},
    vit::VisionTransformer,
};
use burn::tensor::Device;
use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use tempfile::TempDir;

use super::golden;

/// A copy of the golden ViT that may be spoiled.
pub(super) fn copy() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for file in ["config.json", "model.safetensors"] {
        fs::copy(golden("vit").join(file), folder.path().join(file)).unwrap();
    }
    folder
}

pub(super) fn refusal(folder: &Path) -> CheckpointError {
    VisionTransformer::load(folder, &Device::flex()).unwrap_err()
}

/// Rewrites the tensors of the folder.
pub(super) fn rewrite(folder: &Path, change: impl FnOnce(&mut HashMap<String, TensorView<'_>>)) {
    let path = folder.join("model.safetensors");
    let bytes = fs::read(&path).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let mut tensors: HashMap<_, _> = file.tensors().into_iter().collect();
    change(&mut tensors);
    fs::write(path, safetensors::serialize(tensors, None).unwrap()).unwrap();
}

#[test]
fn a_missing_an_unknown_and_a_misshaped_tensor_are_named_all_at_once() {
    let folder = copy();
    rewrite(folder.path(), |tensors| {
        let bias = tensors.remove("vit.layernorm.bias").unwrap();
        tensors.insert("vit.decoder.bias".into(), bias);
        let wide = tensors["vit.encoder.layer.0.intermediate.dense.weight"].clone();
        tensors.insert("classifier.weight".into(), wide);
    });
    let CheckpointError::Tensors { path, problems } = refusal(folder.path()) else {
        panic!("the tensors fit");
    };
    assert_eq!(path, folder.path().join("model.safetensors"));
    assert_eq!(
        problems,
        [
            TensorProblem::Missing {
                name: "vit.layernorm.bias".into(),
                accepted: vec![32]
            },
            TensorProblem::Shape {
                name: "classifier.weight".into(),
                given: vec![64, 32],
                accepted: vec![10, 32]
            },
            TensorProblem::Extra {
                name: "vit.decoder.bias".into(),
                given: vec![32]
            },
        ]
    );
}

#[test]
fn integers_where_weights_belong_are_refused_by_name() {
    let folder = copy();
    static ZEROS: [u8; 40] = [0; 40];
    rewrite(folder.path(), |tensors| {
        let bias = TensorView::new(Dtype::I32, vec![10], &ZEROS).unwrap();
        tensors.insert("classifier.bias".into(), bias);
    });
    let message = refusal(folder.path()).to_string();
    let expected = "`classifier.bias` cannot be used: its type is I32; accepted: floating point";
    assert!(message.contains(expected), "{message}");
}

#[test]
fn a_mask_token_that_only_pretraining_needs_is_written_back() {
    let folder = copy();
    rewrite(folder.path(), |tensors| {
        let token = tensors["vit.embeddings.cls_token"].clone();
        tensors.insert("vit.embeddings.mask_token".into(), token);
    });
    let model = VisionTransformer::load(folder.path(), &Device::flex()).unwrap();
    let saved = tempfile::tempdir().unwrap();
    model.save(saved.path()).unwrap();
    let data = |folder: &Path| {
        let weights = Checkpoint::open(folder).unwrap().weights().unwrap();
        weights.data().unwrap()
    };
    assert_eq!(data(saved.path()), data(folder.path()));
}

#[test]
fn a_truncated_safetensors_file_is_refused() {
    let folder = copy();
    let path = folder.path().join("model.safetensors");
    let bytes = fs::read(&path).unwrap();
    for length in [bytes.len() - 1, 2000, 7] {
        fs::write(&path, &bytes[..length]).unwrap();
        let error = refusal(folder.path());
        assert!(
            matches!(&error, CheckpointError::Weights { path: named, .. } if *named == path),
            "{error}"
        );
    }
}

#[test]
fn a_file_that_is_no_safetensors_file_is_refused() {
    let folder = copy();
    let path = folder.path().join("model.safetensors");
    fs::write(&path, "version https://git-lfs.github.com/spec/v1\n").unwrap();
    let message = refusal(folder.path()).to_string();
    assert!(
        message.contains("is not a whole safetensors file"),
        "{message}"
    );
}

#[test]
fn a_folder_without_its_files_is_refused_with_what_it_should_hold() {
    let folder = copy();
    for file in ["model.safetensors", "config.json"] {
        fs::remove_file(folder.path().join(file)).unwrap();
        let message = refusal(folder.path()).to_string();
        assert!(message.contains(file), "{message}");
        assert!(message.contains("a folder with `config.json` and `model.safetensors`"));
    }
}

#[test]
fn a_model_of_another_architecture_is_refused_with_both_sides_named() {
    let folder = copy();
    let config = r#"{"architectures": ["LlamaForCausalLM"], "model_type": "llama"}"#;
    fs::write(folder.path().join("config.json"), config).unwrap();
    let error = refusal(folder.path());
    let CheckpointError::Architecture {
        found, accepted, ..
    } = &error
    else {
        panic!("{error}");
    };
    assert_eq!(found, "the architecture LlamaForCausalLM");
    for class in [
        "ViTForImageClassification",
        "Dinov2Model",
        "CLIPVisionModel",
    ] {
        assert!(accepted.contains(&class), "{accepted:?}");
    }
}

#[test]
fn a_configuration_that_makes_no_sense_is_refused_with_the_field() {
    let spoil = |from: &str, to: &str| {
        let folder = copy();
        let path = folder.path().join("config.json");
        let config = fs::read_to_string(&path).unwrap();
        assert!(config.contains(from));
        fs::write(&path, config.replace(from, to)).unwrap();
        refusal(folder.path()).to_string()
    };
    let heads = spoil("\"num_attention_heads\": 4", "\"num_attention_heads\": 5");
    assert!(heads.contains("`heads` is 5; accepted: a divisor of the hidden size 32"));
    let missing = spoil("\"patch_size\": 8", "\"patch\": 8");
    assert!(missing.contains("missing field `patch_size`"), "{missing}");
    let activation = spoil("\"gelu\"", "\"relu\"");
    assert!(
        activation.contains("expected `gelu` or `quick_gelu`"),
        "{activation}"
    );
}
