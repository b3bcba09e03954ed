//! Conversion and refusal, on small files made here.

use std::{fs, io::Write, path::Path};

use prost::Message;
use serde_json::json;

use super::{
    catalog::MODELS,
    checkpoint::{self, Checkpoint, Tensor},
    dinov2,
    onnx::{self, FLOAT, GraphProto, ModelProto, NodeProto, TensorProto},
    rxnmapper, terrain,
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
        output: vec![],
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
    let check = |architecture| {
        let files = ["config.json", "model.safetensors"];
        checkpoint::check(folder.path(), &files, architecture)
    };
    check("dinov2").unwrap();
    let error = check("vit").err().unwrap().to_string();
    assert_eq!(error, "config.json: model_type is dinov2, expected is vit");

    let weights = folder.path().join("model.safetensors");
    let bytes = fs::read(&weights).unwrap();
    fs::write(&weights, &bytes[..bytes.len() - 1]).unwrap();
    let error = check("dinov2").err().unwrap().to_string();
    assert_eq!(error, "model.safetensors is not a whole safetensors file");
}

/// A network of the right number of parameters, whose residual blocks and output are normalised.
fn network() -> (Vec<NodeProto>, Vec<TensorProto>) {
    let mut constants = Vec::new();
    let mut parameter = |name: String| {
        constants.push(constant(&format!("network.{name}"), &[1], floats([0.5])));
    };
    for block in 0..34 {
        parameter(format!("input_blocks.{block}.0.in_layers.2.weight"));
        parameter(format!("output_blocks.{block}.0.in_layers.2.weight"));
    }
    parameter("middle_block.0.qkv.weight".into());
    parameter("middle_block.1.qkv.weight".into());
    parameter("out.2.weight".into());
    (0..510 - 71).for_each(|index| parameter(format!("kept.{index}")));
    let mut nodes = Vec::new();
    for index in 0..139 {
        let (scale, shift) = (format!("scale_{index}"), format!("shift_{index}"));
        constants.push(constant(&scale, &[1, 1], floats([index as f32])));
        constants.push(constant(&shift, &[1, 1], floats([-(index as f32)])));
        let mut product = node("Mul", "product", &["x", &scale]);
        product.output = vec![format!("product_{index}")];
        let mut sum = node("Add", "sum", &[&product.output[0], &shift]);
        sum.output = vec![format!("group_norm_{index}")];
        nodes.extend([product, sum]);
    }
    (nodes, constants)
}

#[test]
fn the_terrains_normalisations_are_named_by_the_order_in_which_they_run() {
    let (nodes, constants) = network();
    let converted = terrain::convert(&encode(nodes, constants)).unwrap();
    let first = |name: &str| {
        let bytes = &converted.tensors[name].bytes;
        f32::from_le_bytes(bytes[..4].try_into().unwrap())
    };
    assert_eq!(first("input_blocks.0.0.in_layers.0.weight"), 0.0);
    assert_eq!(first("input_blocks.0.0.out_layers.0.weight"), 1.0);
    assert_eq!(first("input_blocks.11.0.in_layers.0.weight"), 22.0);
    assert_eq!(first("middle_block.1.norm.weight"), 69.0);
    assert_eq!(first("output_blocks.0.0.in_layers.0.bias"), -70.0);
    assert_eq!(first("out.0.weight"), 138.0);
    assert_eq!(converted.tensors["out.0.weight"].shape, [1]);
    assert_eq!(converted.tensors.len(), 510 + 2 * 139);
}

#[test]
fn a_terrain_network_that_lacks_a_normalisation_is_counted() {
    let (mut nodes, constants) = network();
    nodes.pop();
    let error = terrain::convert(&encode(nodes, constants)).err().unwrap();
    assert_eq!(
        error.to_string(),
        "138 normalisations run and 139 have a place, expected are 139"
    );
}

#[test]
fn a_file_that_is_no_pytorch_file_is_refused() {
    let error = rxnmapper::convert(b"not a pickle").err().unwrap();
    assert_eq!(error.to_string(), "not a whole PyTorch file");
}

#[test]
fn a_gguf_file_of_another_architecture_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let check = |architecture| checkpoint::check(folder.path(), &["a.gguf"], architecture);
    let mut bytes = b"GGUF".to_vec();
    bytes.extend(5u64.to_le_bytes());
    bytes.extend(b"llama");
    fs::write(folder.path().join("a.gguf"), &bytes).unwrap();
    check("llama").unwrap();
    let error = check("qwen2").err().unwrap().to_string();
    assert_eq!(error, "a.gguf is not a GGUF file of the architecture qwen2");
}

#[test]
fn every_model_has_a_pinned_checksum_and_names_of_its_own() {
    let mut names = std::collections::BTreeSet::new();
    for model in &MODELS {
        assert!(names.insert(model.name), "{} stands twice", model.name);
        assert_eq!(model.package.sha256.len(), 64, "{}", model.name);
        assert!(!model.files.is_empty(), "{}", model.name);
    }
}
