//! What tables of names can say, read and written.

use std::fs;

use attention_models::models::checkpoint::{
    Checkpoint, Format, HeadLayout, NameTable, Projection,
    Source::{self, Columns, Expert, ExpertColumns, Heads, Rows, Transposed, Whole},
    Weights,
};
use burn::module::{Module, ModuleVisitor, Param};
use burn::nn::{LayerNorm, LayerNormConfig, Linear, LinearConfig};
use burn::tensor::{Device, Tensor, TensorData};
use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use serde_json::json;

use super::{checkpoints::rewrite, golden};
/// One of everything that a table of names can say.
#[derive(Module, Debug)]
struct Parts {
    norm: LayerNorm,
    query: Linear,
    key: Linear,
    value: Linear,
    grouped: [Linear; 3],
    transposed: Linear,
    columns: [Linear; 2],
    experts: Vec<TwoLinears>,
}

#[derive(Module, Debug)]
struct TwoLinears {
    gate: Linear,
    inner: Linear,
    outer: Linear,
}

const fn rows(part: usize) -> Source {
    Rows {
        of: "qkv",
        part,
        parts: 3,
    }
}

const fn grouped(part: Projection) -> Source {
    Heads {
        of: "grouped",
        part,
    }
}

const fn columns(part: usize) -> Source {
    Columns {
        of: "c_attn",
        part,
        parts: 2,
    }
}

const fn gate_up(of: &'static str, part: usize) -> Source {
    ExpertColumns { of, part, parts: 2 }
}

const PARTS: NameTable = NameTable {
    prefixes: &["model."],
    backbone: &[
        ("query", rows(0)),
        ("key", rows(1)),
        ("value", rows(2)),
        ("grouped.0", grouped(Projection::Query)),
        ("grouped.1", grouped(Projection::Key)),
        ("grouped.2", grouped(Projection::Value)),
        ("transposed", Transposed("c_proj")),
        ("columns.0", columns(0)),
        ("columns.1", columns(1)),
        ("experts.{}.gate.weight", gate_up("experts.gate_up", 0)),
        ("experts.{}.gate.bias", gate_up("experts.gate_up_bias", 0)),
        ("experts.{}.inner.weight", gate_up("experts.gate_up", 1)),
        ("experts.{}.inner.bias", gate_up("experts.gate_up_bias", 1)),
        ("experts.{}.outer.weight", Expert("experts.down")),
        ("experts.{}.outer.bias", Expert("experts.down_bias")),
        ("norm", Whole("ln")),
    ],
    heads: &[],
    ignored: &["*.inv_freq", "lm_head.weight"],
};

fn parts() -> Parts {
    let device = Device::flex();
    let linear = |inputs, outputs| LinearConfig::new(inputs, outputs).init(&device);
    Parts {
        norm: LayerNormConfig::new(4).init(&device),
        query: linear(4, 6),
        key: linear(4, 6),
        value: linear(4, 6),
        // Four heads of width 2 for two keys.
        grouped: [linear(4, 8), linear(4, 4), linear(4, 4)],
        transposed: linear(4, 6),
        columns: [linear(4, 6), linear(4, 6)],
        experts: (0..3)
            .map(|_| TwoLinears {
                gate: linear(4, 6),
                inner: linear(4, 6),
                outer: linear(6, 4),
            })
            .collect(),
    }
}

const LAYOUT: HeadLayout = HeadLayout {
    heads: 4,
    kv_heads: 2,
};

/// All parameters in the order of the module.
fn values(module: &Parts) -> Vec<TensorData> {
    struct Values(Vec<TensorData>);
    impl ModuleVisitor for Values {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            self.0.push(param.val().into_data());
        }
    }
    let mut values = Values(Vec::new());
    module.visit(&mut values);
    values.0
}

#[test]
fn a_saved_module_is_fused_as_the_familys_files_are_and_reads_back_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let config = json!({ "architectures": ["Parts"], "dtype": "bfloat16" });
    let format = Format::new(config, PARTS)
        .with_prefix("model.")
        .with_heads(LAYOUT);
    let saved = parts();
    format.save(&saved, folder.path()).unwrap();

    let bytes = fs::read(folder.path().join("model.safetensors")).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let shape = |name: &str| file.tensor(name).unwrap().shape().to_vec();
    assert_eq!(shape("model.qkv.weight"), [18, 4]);
    assert_eq!(shape("model.grouped.weight"), [16, 4]);
    assert_eq!(shape("model.c_proj.weight"), [4, 6]);
    assert_eq!(shape("model.c_attn.weight"), [4, 12]);
    assert_eq!(shape("model.c_attn.bias"), [12]);
    assert_eq!(shape("model.experts.gate_up"), [3, 4, 12]);
    assert_eq!(shape("model.experts.down_bias"), [3, 4]);
    assert_eq!(file.len(), 14);

    let checkpoint = Checkpoint::open(folder.path()).unwrap();
    let config: serde_json::Value = checkpoint.config().unwrap();
    assert_eq!(config["dtype"], "float32");
    let weights = checkpoint.weights().unwrap().with_heads(LAYOUT);
    let read = weights.load_into(parts(), &PARTS).unwrap();
    assert_eq!(values(&read), values(&saved));

    let again = tempfile::tempdir().unwrap();
    let format = checkpoint.format(&weights, &PARTS);
    format.save(&read, again.path()).unwrap();
    let copied = fs::read(again.path().join("model.safetensors")).unwrap();
    assert_eq!(copied, bytes);
}

#[test]
fn grouped_heads_without_a_layout_are_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let format = Format::new(json!({}), PARTS);
    let error = format.save(&parts(), folder.path()).unwrap_err();
    let expected = "`grouped.weight` cannot be used: how its heads are grouped is not known";
    assert!(error.to_string().contains(expected), "{error}");
    format
        .with_heads(LAYOUT)
        .save(&parts(), folder.path())
        .unwrap();
    let weights = Weights::open(&folder.path().join("model.safetensors")).unwrap();
    let error = weights.load_into(parts(), &PARTS).unwrap_err();
    assert!(error.to_string().contains(expected), "{error}");
}

#[test]
fn a_buffer_and_a_tied_head_that_the_table_ignores_are_no_error() {
    let folder = tempfile::tempdir().unwrap();
    let format = Format::new(json!({}), PARTS).with_heads(LAYOUT);
    format.save(&parts(), folder.path()).unwrap();
    static ZEROS: [u8; 16] = [0; 16];
    let zeros = || TensorView::new(Dtype::F32, vec![4], &ZEROS).unwrap();
    rewrite(folder.path(), |tensors| {
        tensors.insert("layers.3.rotary.inv_freq".into(), zeros());
        tensors.insert("lm_head.weight".into(), zeros());
    });
    let path = folder.path().join("model.safetensors");
    let load = || {
        let weights = Weights::open(&path).unwrap().with_heads(LAYOUT);
        weights.load_into(parts(), &PARTS)
    };
    load().unwrap();
    rewrite(folder.path(), |tensors| {
        tensors.insert("lm_head.bias".into(), zeros());
    });
    assert!(load().unwrap_err().to_string().contains("`lm_head.bias`"));
}

#[test]
fn a_saved_vision_transformer_keeps_the_names_and_shapes_of_the_file_that_it_came_from() {
    let folder = golden("vit");
    let checkpoint = Checkpoint::open(&folder).unwrap();
    let weights = checkpoint.weights().unwrap();
    // Its patches are embedded by a matrix here, by a convolution there.
    let table = NameTable {
        prefixes: &["vit."],
        backbone: &[(
            "projection",
            Whole("embeddings.patch_embeddings.projection"),
        )],
        heads: &[],
        ignored: &["*"],
    };
    #[derive(Module, Debug)]
    struct Patches {
        projection: Linear,
    }
    let device = Device::flex();
    let empty = Patches {
        projection: LinearConfig::new(192, 32).init(&device),
    };
    let read = weights.load_into(empty, &table).unwrap();
    let saved = tempfile::tempdir().unwrap();
    let format = checkpoint.format(&weights, &table);
    format.save(&read, saved.path()).unwrap();
    let given = Weights::open(&saved.path().join("model.safetensors")).unwrap();
    let (given, expected) = (given.data().unwrap(), weights.data().unwrap());
    let name = "vit.embeddings.patch_embeddings.projection.weight";
    assert_eq!(given[name], expected[name]);
    assert_eq!(given.len(), 2);
}

#[test]
fn diffusers_weights_are_found_under_their_own_name() {
    let folder = tempfile::tempdir().unwrap();
    let format = Format::new(json!({ "_class_name": "UNet2DModel" }), PARTS).with_heads(LAYOUT);
    format.save(&parts(), folder.path()).unwrap();
    let name = "diffusion_pytorch_model.safetensors";
    assert!(folder.path().join(name).is_file());
    let checkpoint = Checkpoint::open(folder.path()).unwrap();
    assert_eq!(checkpoint.architecture(), Some("UNet2DModel"));
    assert!(checkpoint.weights().unwrap().contains("qkv.weight"));
}
