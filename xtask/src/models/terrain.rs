//! From the terrain generator's ONNX file to the names of guided-diffusion's UNet.

use std::collections::{BTreeMap, HashMap};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::{
    checkpoint::{Checkpoint, Tensor},
    onnx::{self, Graph, NodeProto},
};

/// What stands before the names that the export kept.
const PREFIX: &str = "network.";
/// How the export calls the output of a normalisation.
const NORM: &str = "group_norm";
/// Parameters that kept their names, and normalisations, which did not.
const NAMED: usize = 510;
const NORMS: usize = 139;
/// More blocks, and layers of a block, than there are.
const MANY: usize = 64;

/// Gives the normalisations their names back, which follow from the order in which they run.
pub fn convert(bytes: &[u8]) -> Result<Checkpoint> {
    let graph = onnx::parse(bytes)?;
    let mut tensors: BTreeMap<String, Tensor> = graph
        .constants
        .iter()
        .filter_map(|(name, tensor)| Some((name.strip_prefix(PREFIX)?.into(), tensor.clone())))
        .collect();
    ensure!(
        tensors.len() == NAMED,
        "{} parameters of the network are found, expected are {NAMED}",
        tensors.len()
    );
    let names = norms_in_order(&tensors)?;
    let norms = norms(&graph)?;
    ensure!(
        norms.len() == NORMS && names.len() == NORMS,
        "{} normalisations run and {} have a place, expected are {NORMS}",
        norms.len(),
        names.len()
    );
    for (name, [weight, bias]) in names.iter().zip(norms) {
        tensors.insert(format!("{name}.weight"), weight);
        tensors.insert(format!("{name}.bias"), bias);
    }
    Ok(Checkpoint {
        configuration: vec![("config.json", config())],
        tensors,
    })
}

/// Scale and shift of each normalisation, in the order in which they run: the export made each a
/// product with a constant, and then a sum with another.
fn norms(graph: &Graph) -> Result<Vec<[Tensor; 2]>> {
    let makers: HashMap<&str, &NodeProto> = graph
        .nodes
        .iter()
        .flat_map(|node| {
            node.output
                .iter()
                .map(move |output| (output.as_str(), node))
        })
        .collect();
    let is_norm = |node: &&NodeProto| {
        node.op_type == "Add" && node.output.iter().any(|output| output.starts_with(NORM))
    };
    let constant = |node: &NodeProto| {
        let tensor = graph.constants.get(node.input.get(1)?)?;
        Some(Tensor {
            shape: vec![tensor.shape.iter().product()],
            bytes: tensor.bytes.clone(),
        })
    };
    let parameters = |sum: &NodeProto| {
        let product = makers.get(sum.input.first()?.as_str())?;
        Some([constant(product)?, constant(sum)?])
    };
    let sums = graph.nodes.iter().filter(is_norm);
    sums.map(|sum| parameters(sum).with_context(|| format!("{} has no parameters", sum.name)))
        .collect()
}

/// The names of the normalisations in the order in which they run: two in a residual block, one
/// in an attention block, one before the output.
fn norms_in_order(tensors: &BTreeMap<String, Tensor>) -> Result<Vec<String>> {
    let has = |name: String| tensors.contains_key(&name);
    let layer = |path: String| {
        if has(format!("{path}.in_layers.2.weight")) {
            vec![
                format!("{path}.in_layers.0"),
                format!("{path}.out_layers.0"),
            ]
        } else if has(format!("{path}.qkv.weight")) {
            vec![format!("{path}.norm")]
        } else {
            vec![]
        }
    };
    let blocks = |name: &'static str| {
        let paths = (0..MANY)
            .flat_map(move |block| (0..MANY).map(move |at| format!("{name}.{block}.{at}")));
        paths.flat_map(layer)
    };
    let middle = (0..MANY).map(|at| format!("middle_block.{at}"));
    let mut names: Vec<String> = blocks("input_blocks").collect();
    names.extend(middle.flat_map(layer));
    names.extend(blocks("output_blocks"));
    ensure!(
        has("out.2.weight".to_string()),
        "the network has no output layer"
    );
    names.push("out.0".to_string());
    Ok(names)
}

fn config() -> Value {
    json!({
        "architecture": "guided-diffusion UNet, EDM preconditioning, one-step consistency model",
        "attention_levels": [2, 3, 4],
        "channel_mult": [1, 1, 2, 3, 4],
        "image_size": 128,
        "in_channels": 1,
        "label": "difficulty in [0, 1]",
        "model_channels": 32,
        "norm_eps": 1e-5,
        "norm_groups": 32,
        "num_head_channels": 32,
        "num_res_blocks": 4,
        "out_channels": 1,
        "resblock_updown": true,
        "sigma_data": 0.5,
        "sigma_max": 80.0,
        "sigma_min": 0.002,
        "time_scale": "250*ln(sigma)",
        "use_new_attention_order": true,
        "use_scale_shift_norm": true
    })
}
