//! Weights in several files and in other types than f32.

use std::{fs, path::Path};

use attention_models::models::{checkpoint::CheckpointError, vit::VisionTransformer};
use burn::tensor::{DType, Device, Tensor, TensorData};
use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use serde_json::json;

use super::{
    checkpoints::{copy, refusal},
    golden,
};
/// Splits the folder's weights into two shards under an index, and returns the second's path.
fn shard(folder: &Path) -> std::path::PathBuf {
    let path = folder.join("model.safetensors");
    let bytes = fs::read(&path).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let mut tensors = file.tensors();
    tensors.sort_by(|a, b| a.0.cmp(&b.0));
    let second = tensors.split_off(tensors.len() / 2);
    let mut map = serde_json::Map::new();
    for (name, tensors) in [
        ("model-1.safetensors", tensors),
        ("model-2.safetensors", second),
    ] {
        for (tensor, _) in &tensors {
            map.insert(tensor.clone(), name.into());
        }
        let bytes = safetensors::serialize(tensors, None).unwrap();
        fs::write(folder.join(name), bytes).unwrap();
    }
    let index = json!({ "metadata": { "total_size": 0 }, "weight_map": map }).to_string();
    fs::write(folder.join("model.safetensors.index.json"), index).unwrap();
    fs::remove_file(path).unwrap();
    folder.join("model-2.safetensors")
}

fn logits(model: &VisionTransformer) -> TensorData {
    let image = Tensor::<4>::ones([1, 3, 32, 32], &Device::flex());
    model.forward(image).logits.unwrap().into_data()
}

#[test]
fn weights_in_shards_are_one_model() {
    let whole = VisionTransformer::load(golden("vit"), &Device::flex()).unwrap();
    let folder = copy();
    shard(folder.path());
    let sharded = VisionTransformer::load(folder.path(), &Device::flex()).unwrap();
    assert_eq!(logits(&whole), logits(&sharded));
}

#[test]
fn a_truncated_and_a_missing_shard_are_named() {
    let folder = copy();
    let second = shard(folder.path());
    let bytes = fs::read(&second).unwrap();
    fs::write(&second, &bytes[..bytes.len() - 1]).unwrap();
    let error = refusal(folder.path());
    assert!(
        matches!(&error, CheckpointError::Weights { path, .. } if *path == second),
        "{error}"
    );
    fs::remove_file(&second).unwrap();
    let error = refusal(folder.path());
    assert!(
        matches!(&error, CheckpointError::Unreadable { path, .. } if *path == second),
        "{error}"
    );
}

#[test]
fn a_tensor_that_its_shard_lacks_is_named_and_a_shard_elsewhere_is_not_opened() {
    let folder = copy();
    shard(folder.path());
    let index = folder.path().join("model.safetensors.index.json");
    let text = fs::read_to_string(&index).unwrap();
    let moved = r#""classifier.bias":"model-2.safetensors""#;
    let elsewhere = text.replacen(r#""classifier.bias":"model-1.safetensors""#, moved, 1);
    assert_ne!(elsewhere, text);
    fs::write(&index, elsewhere).unwrap();
    let CheckpointError::Tensors { path, problems } = refusal(folder.path()) else {
        panic!("the index is right");
    };
    assert_eq!(path, index);
    assert_eq!(
        problems[0].to_string(),
        "`classifier.bias` cannot be used: the index says that it is in `model-2.safetensors`, \
         and it is not"
    );
    let outside = text.replace("model-2.safetensors", "../model-2.safetensors");
    fs::write(&index, outside).unwrap();
    let message = refusal(folder.path()).to_string();
    assert!(
        message.contains("names `../model-2.safetensors`; accepted: a file of the folder"),
        "{message}"
    );
}

/// The folder's tensors in another type.
fn convert(folder: &Path, dtype: Dtype, half: impl Fn(f32) -> [u8; 2]) {
    let path = folder.join("model.safetensors");
    let bytes = fs::read(&path).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let halves: Vec<(String, Vec<usize>, Vec<u8>)> = file
        .tensors()
        .into_iter()
        .map(|(name, tensor)| {
            let values = tensor.data().as_chunks::<4>().0.iter();
            let values = values.map(|bytes| f32::from_le_bytes(*bytes));
            let bytes = values.flat_map(&half).collect();
            (name, tensor.shape().to_vec(), bytes)
        })
        .collect();
    let views = halves
        .iter()
        .map(|(name, shape, bytes)| (name, TensorView::new(dtype, shape.clone(), bytes).unwrap()));
    fs::write(&path, safetensors::serialize(views, None).unwrap()).unwrap();
}

#[test]
fn weights_of_16_bits_are_read_as_32_bits() {
    let whole = VisionTransformer::load(golden("vit"), &Device::flex()).unwrap();
    let kept = |value: f32, bits: u32| {
        let step = 1u32 << bits;
        f32::from_bits(value.to_bits() & !(step - 1))
    };
    for (dtype, tolerance) in [(Dtype::F16, 1e-2), (Dtype::BF16, 5e-2)] {
        let folder = copy();
        convert(folder.path(), dtype, |value| match dtype {
            Dtype::F16 => half_bits(value).to_le_bytes(),
            _ => ((kept(value, 16).to_bits() >> 16) as u16).to_le_bytes(),
        });
        let model = VisionTransformer::load(folder.path(), &Device::flex()).unwrap();
        assert_eq!(model.norm.gamma.val().dtype(), DType::F32);
        let (given, expected) = (logits(&model), logits(&whole));
        let pairs = given.iter::<f32>().zip(expected.iter::<f32>());
        for (given, expected) in pairs {
            assert!(
                (given - expected).abs() < tolerance,
                "{given} is not {expected}"
            );
        }
    }
}

/// A normal number of 16 bits, rounded towards zero; smaller ones become zero.
fn half_bits(value: f32) -> u16 {
    let bits = value.to_bits();
    let (sign, exponent) = (
        (bits >> 16) as u16 & 0x8000,
        (bits >> 23 & 255) as i32 - 127 + 15,
    );
    match exponent {
        ..=0 => sign,
        _ => sign | (exponent as u16) << 10 | (bits >> 13 & 1023) as u16,
    }
}
