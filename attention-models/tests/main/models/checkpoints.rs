use std::{collections::HashMap, fs, path::Path};

use attention_models::models::{
    checkpoint::{
        Checkpoint, CheckpointError, Format, HeadLayout, NameTable, Projection,
        Source::{self, Columns, Expert, ExpertColumns, Heads, Rows, Transposed, Whole},
        TensorProblem, Weights,
    },
    vit::VisionTransformer,
};
use burn::module::{Module, ModuleVisitor, Param};
use burn::nn::{LayerNorm, LayerNormConfig, Linear, LinearConfig};
use burn::tensor::{DType, Device, Tensor, TensorData};
use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use serde_json::json;
use tempfile::TempDir;

use super::golden;

/// A copy of the golden ViT that may be spoiled.
fn copy() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for file in ["config.json", "model.safetensors"] {
        fs::copy(golden("vit").join(file), folder.path().join(file)).unwrap();
    }
    folder
}

fn refusal(folder: &Path) -> CheckpointError {
    VisionTransformer::load(folder, &Device::flex()).unwrap_err()
}

/// Rewrites the tensors of the folder.
fn rewrite(folder: &Path, change: impl FnOnce(&mut HashMap<String, TensorView<'_>>)) {
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
fn a_mask_token_that_only_pretraining_needs_is_no_error() {
    let folder = copy();
    rewrite(folder.path(), |tensors| {
        let token = tensors["vit.embeddings.cls_token"].clone();
        tensors.insert("vit.embeddings.mask_token".into(), token);
    });
    VisionTransformer::load(folder.path(), &Device::flex()).unwrap();
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
    let whole = VisionTransformer::load(&golden("vit"), &Device::flex()).unwrap();
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
    let whole = VisionTransformer::load(&golden("vit"), &Device::flex()).unwrap();
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
