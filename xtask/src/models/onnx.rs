//! The part of ONNX's format that weights live in (onnx.proto3, field numbers as there).

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use prost::Message;

use super::checkpoint::Tensor;

#[derive(Message)]
pub struct ModelProto {
    #[prost(message, optional, tag = "7")]
    pub graph: Option<GraphProto>,
}

#[derive(Message)]
pub struct GraphProto {
    #[prost(message, repeated, tag = "1")]
    pub node: Vec<NodeProto>,
    #[prost(message, repeated, tag = "5")]
    pub initializer: Vec<TensorProto>,
}

#[derive(Message)]
pub struct NodeProto {
    #[prost(string, repeated, tag = "1")]
    pub input: Vec<String>,
    #[prost(string, repeated, tag = "2")]
    pub output: Vec<String>,
    #[prost(string, tag = "3")]
    pub name: String,
    #[prost(string, tag = "4")]
    pub op_type: String,
}

#[derive(Message)]
pub struct TensorProto {
    #[prost(int64, repeated, tag = "1")]
    pub dims: Vec<i64>,
    #[prost(int32, tag = "2")]
    pub data_type: i32,
    #[prost(string, tag = "8")]
    pub name: String,
    #[prost(bytes = "vec", tag = "9")]
    pub raw_data: Vec<u8>,
}

/// `TensorProto.DataType.FLOAT`.
pub const FLOAT: i32 = 1;

/// A graph's operations, and its float32 constants by name.
pub struct Graph {
    pub nodes: Vec<NodeProto>,
    pub constants: BTreeMap<String, Tensor>,
}

/// Reads a model file; constants of other types than float32 are passed over.
pub fn parse(bytes: &[u8]) -> Result<Graph> {
    let model = ModelProto::decode(bytes).context("not a whole ONNX file")?;
    let graph = model.graph.context("an ONNX file without a graph")?;
    let floats = graph
        .initializer
        .into_iter()
        .filter(|tensor| tensor.data_type == FLOAT);
    let constants = floats
        .map(|tensor| Ok((tensor.name.clone(), constant(tensor)?)))
        .collect::<Result<_>>()?;
    Ok(Graph {
        nodes: graph.node,
        constants,
    })
}

fn constant(tensor: TensorProto) -> Result<Tensor> {
    let dims: Result<Vec<usize>, _> = tensor
        .dims
        .iter()
        .map(|&dim| usize::try_from(dim))
        .collect();
    let shape = dims.with_context(|| format!("{} has a negative size", tensor.name))?;
    let expected = shape
        .iter()
        .try_fold(size_of::<f32>(), |product, &dim| product.checked_mul(dim));
    ensure!(
        expected == Some(tensor.raw_data.len()),
        "{} holds {} bytes, its shape is {shape:?}",
        tensor.name,
        tensor.raw_data.len()
    );
    Ok(Tensor {
        shape,
        bytes: tensor.raw_data,
    })
}
