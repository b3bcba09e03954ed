//! Conversion and refusal, on small files made here.

use std::{fs, io::Write, path::Path};

use prost::Message;
use serde_json::json;

use super::{
    checkpoint::{self, Checkpoint, Tensor},
    dinov2,
    onnx::{self, FLOAT, GraphProto, ModelProto, NodeProto, TensorProto},
};
use crate::package;

fn floats(values: impl IntoIterator<Item = f32>) -> Vec<u8> {
    values.into_iter().flat_map(f32::to_le_bytes).collect()
}

fn constant(name: &str, dims: &[i64], raw_data: Vec<u8>) -> TensorProto {
    TensorProto {
        dims: dims.to_vec(),
        data_type: FLOAT,
        name: name.into(),
        raw_data,
    }
}

fn node(op_type: &str, name: &str, input: &[&str]) -> NodeProto {
    let input = input.iter().map(|name| name.to_string()).collect();
    NodeProto {
        input,
        name: name.into(),
        op_type: op_type.into(),
    }
}

fn encode(node: Vec<NodeProto>, initializer: Vec<TensorProto>) -> Vec<u8> {
    ModelProto {
        graph: Some(GraphProto { node, initializer }),
    }
    .encode_to_vec()
}

/// A backbone of the right names, whose matrices are 2 x 3.
fn backbone() -> (Vec<NodeProto>, Vec<TensorProto>) {
    let mut nodes = vec![node(
        "Concat",
        "/backbone/embeddings/Concat_6",
        &["class", "grid"],
    )];
    let mut constants = vec![
        constant("class", &[1, 1, 384], floats((0..384).map(|_| 7.0))),
        constant(
            "grid",
            &[1, 1369, 384],
            floats((0..1369 * 384).map(|i| i as f32)),
        ),
        constant("matrix", &[2, 3], floats([1.0, 2.0, 3.0, 4.0, 5.0, 6.0])),
        constant("saliency.weight", &[1], floats([9.0])),
    ];
    let outside = [
        "embeddings.cls_token",
        "patch.weight",
        "patch.bias",
        "norm.weight",
        "norm.bias",
    ];
    constants
        .extend(outside.map(|name| constant(&format!("backbone.{name}"), &[1], floats([1.0]))));
    for layer in 0..12 {
        for index in 0..12 {
            let name = format!("backbone.encoder.layer.{layer}.kept{index}");
            constants.push(constant(&name, &[1], floats([index as f32])));
        }
        for index in 0..6 {
            let name = format!("/backbone/encoder/layer.{layer}/product{index}/MatMul");
            nodes.push(node("MatMul", &name, &["x", "matrix"]));
        }
    }
    (nodes, constants)
}

#[test]
fn a_weight_takes_its_modules_name_and_is_transposed() {
    let (nodes, constants) = backbone();
    let converted = dinov2::convert(&encode(nodes, constants)).unwrap();
    let weight = &converted.tensors["encoder.layer.11.product5.weight"];
    let expected = floats([1.0, 4.0, 2.0, 5.0, 3.0, 6.0]);
    assert_eq!(
        *weight,
        Tensor {
            shape: vec![3, 2],
            bytes: expected
        }
    );
    assert!(converted.tensors.contains_key("encoder.layer.0.kept3"));
    assert!(
        !converted
            .tensors
            .keys()
            .any(|name| name.contains("saliency"))
    );
}

#[test]
fn the_class_tokens_position_stands_before_the_patches() {
    let (nodes, constants) = backbone();
    let converted = dinov2::convert(&encode(nodes, constants)).unwrap();
    let positions = &converted.tensors["embeddings.position_embeddings"];
    assert_eq!(positions.shape, [1, 1370, 384]);
    assert_eq!(positions.bytes[..4], 7.0f32.to_le_bytes());
    assert_eq!(positions.bytes[385 * 4..386 * 4], 1.0f32.to_le_bytes());
}

#[test]
fn a_missing_tensor_is_counted_and_a_missing_position_is_named() {
    let (nodes, mut constants) = backbone();
    constants.pop();
    let error = dinov2::convert(&encode(nodes, constants)).err().unwrap();
    assert_eq!(
        error.to_string(),
        "222 backbone tensors are found, expected are 223"
    );
    let (mut nodes, constants) = backbone();
    nodes.remove(0);
    let error = dinov2::convert(&encode(nodes, constants)).err().unwrap();
    assert!(
        error.to_string().contains("/backbone/embeddings/Concat_6"),
        "{error}"
    );
}

#[test]
fn a_truncated_onnx_file_is_refused() {
    let whole = encode(vec![], vec![constant("a", &[2], floats([1.0, 2.0]))]);
    assert_eq!(onnx::parse(&whole).unwrap().constants["a"].shape, [2]);
    for length in 1..whole.len() {
        assert!(
            onnx::parse(&whole[..length]).is_err(),
            "{length} of {} bytes",
            whole.len()
        );
    }
}

#[test]
fn a_constant_with_too_few_bytes_or_a_negative_size_is_refused() {
    let short = encode(vec![], vec![constant("a", &[2, 2], floats([1.0]))]);
    let error = onnx::parse(&short).err().unwrap().to_string();
    assert_eq!(error, "a holds 4 bytes, its shape is [2, 2]");
    let negative = encode(vec![], vec![constant("a", &[-1], floats([1.0]))]);
    assert_eq!(
        onnx::parse(&negative).err().unwrap().to_string(),
        "a has a negative size"
    );
}

fn archive(folder: &Path) -> std::path::PathBuf {
    let path = folder.join("a.whl");
    let mut zip = zip::ZipWriter::new(fs::File::create(&path).unwrap());
    zip.start_file("inner/file.bin", zip::write::SimpleFileOptions::default())
        .unwrap();
    zip.write_all(b"content").unwrap();
    zip.finish().unwrap();
    path
}

#[test]
fn an_archive_gives_its_file_and_names_a_missing_one() {
    let folder = tempfile::tempdir().unwrap();
    let path = archive(folder.path());
    assert_eq!(
        package::unpack(&path, "inner/file.bin").unwrap(),
        b"content"
    );
    let error = package::unpack(&path, "inner/other.bin")
        .err()
        .unwrap()
        .to_string();
    assert_eq!(error, "a.whl holds no inner/other.bin");
}

#[test]
fn a_truncated_archive_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = archive(folder.path());
    let bytes = fs::read(&path).unwrap();
    fs::write(&path, &bytes[..bytes.len() - 10]).unwrap();
    let error = package::unpack(&path, "inner/file.bin")
        .err()
        .unwrap()
        .to_string();
    assert_eq!(error, "a.whl is not a whole zip archive");
}

#[test]
fn a_wrong_checksum_names_both_sums() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    fs::write(&path, b"abc").unwrap();
    let right = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    package::verify(&path, right).unwrap();
    let wrong = "0".repeat(64);
    let error = package::verify(&path, &wrong).err().unwrap().to_string();
    assert!(error.contains(right) && error.contains(&wrong), "{error}");
}

#[test]
fn a_written_folder_passes_its_check_and_a_truncated_or_foreign_one_does_not() {
    let folder = tempfile::tempdir().unwrap();
    let tensor = Tensor {
        shape: vec![2],
        bytes: floats([1.0, 2.0]),
    };
    let written = Checkpoint {
        configuration: vec![("config.json", json!({ "model_type": "dinov2" }))],
        tensors: [("a".to_string(), tensor)].into(),
    };
    checkpoint::write(&written, folder.path()).unwrap();
    checkpoint::check(folder.path(), "dinov2").unwrap();
    let error = checkpoint::check(folder.path(), "vit")
        .err()
        .unwrap()
        .to_string();
    assert_eq!(error, "config.json: model_type is dinov2, expected is vit");

    let weights = folder.path().join("model.safetensors");
    let bytes = fs::read(&weights).unwrap();
    fs::write(&weights, &bytes[..bytes.len() - 1]).unwrap();
    let error = checkpoint::check(folder.path(), "dinov2")
        .err()
        .unwrap()
        .to_string();
    assert_eq!(error, "model.safetensors is not a whole safetensors file");
}
