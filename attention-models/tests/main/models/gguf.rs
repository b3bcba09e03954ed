use std::path::Path;

use attention_models::models::checkpoint::{
    Checkpoint, CheckpointError, Gguf, GgufValue, TensorProblem,
};

use super::gguf_writer::{FLOAT, LIST, TEXT, Writer, floats, text};

/// Two heads of width 4 for one key, as wide as a block.
fn llama() -> Writer {
    let tokens = ["a", "b", "c"].map(text).concat();
    let list = [&TEXT.to_le_bytes()[..], &3u64.to_le_bytes(), &tokens].concat();
    Writer::default()
        .value("general.architecture", TEXT, text("llama"))
        .count("llama.block_count", 1)
        .count("llama.context_length", 64)
        .count("llama.embedding_length", 8)
        .count("llama.feed_forward_length", 32)
        .count("llama.attention.head_count", 2)
        .count("llama.attention.head_count_kv", 1)
        .value(
            "llama.attention.layer_norm_rms_epsilon",
            FLOAT,
            floats([1e-5]),
        )
        .value("llama.rope.freq_base", FLOAT, floats([100_000.0]))
        .value("tokenizer.ggml.tokens", LIST, list)
        .tensor(
            "token_embd.weight",
            &[3, 8],
            0,
            floats((0..24).map(|i| i as f32)),
        )
        .tensor(
            "blk.0.attn_q.weight",
            &[8, 2],
            0,
            floats((0..16).map(|i| i as f32)),
        )
        .tensor(
            "blk.0.attn_k.weight",
            &[4, 2],
            0,
            floats((0..8).map(|i| i as f32)),
        )
        .tensor(
            "blk.0.attn_v.weight",
            &[4, 2],
            0,
            floats((0..8).map(|i| i as f32)),
        )
}

fn values(path: &Path, name: &str) -> Vec<f32> {
    let data = Checkpoint::open(path).unwrap().weights().unwrap().data();
    data.unwrap()[name].try_to_vec().unwrap()
}

#[test]
fn a_llama_in_gguf_has_the_configuration_of_its_hugging_face_folder() {
    let (folder, _) = llama().write();
    // The folder holds nothing else, and is opened as the file.
    let checkpoint = Checkpoint::open(folder.path()).unwrap();
    assert_eq!(checkpoint.architecture(), Some("LlamaForCausalLM"));
    let config: serde_json::Value = checkpoint.config().unwrap();
    for (field, expected) in [
        ("hidden_size", 8),
        ("intermediate_size", 32),
        ("num_hidden_layers", 1),
        ("num_attention_heads", 2),
        ("num_key_value_heads", 1),
        ("head_dim", 4),
        ("max_position_embeddings", 64),
        ("vocab_size", 3),
    ] {
        assert_eq!(config[field], expected, "{field}");
    }
    assert_eq!(config["rms_norm_eps"], 1e-5);
    assert_eq!(config["rope_parameters"]["rope_theta"], 1e5);
    assert_eq!(config["tie_word_embeddings"], true);
}

#[test]
fn query_and_key_rows_are_put_back_into_halves() {
    let (_folder, path) = llama().write();
    let query = values(&path, "model.layers.0.self_attn.q_proj.weight");
    let rows = |rows: [usize; 8]| rows.map(|row| [2 * row, 2 * row + 1].map(|i| i as f32));
    assert_eq!(query, rows([0, 2, 1, 3, 4, 6, 5, 7]).concat());
    let key = values(&path, "model.layers.0.self_attn.k_proj.weight");
    assert_eq!(key, [0.0, 1.0, 4.0, 5.0, 2.0, 3.0, 6.0, 7.0]);
    let value = values(&path, "model.layers.0.self_attn.v_proj.weight");
    assert_eq!(value, [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]);
}

#[test]
fn factors_of_rotations_are_part_of_the_configuration() {
    let factors = || floats([1.0, 8.0]);
    let file = llama().tensor("rope_freqs.weight", &[2], 0, factors());
    let (_folder, path) = file.write();
    let checkpoint = Checkpoint::open(&path).unwrap();
    let config: serde_json::Value = checkpoint.config().unwrap();
    let rope = &config["rope_parameters"];
    assert_eq!(rope["rope_type"], "longrope");
    for field in ["short_factor", "long_factor"] {
        assert_eq!(rope[field], serde_json::json!([1.0, 8.0]));
    }
    assert_eq!(rope["attention_factor"], 1.0);
    assert!(!checkpoint.weights().unwrap().contains("rope_freqs.weight"));

    let both = llama()
        .tensor("rope_freqs.weight", &[2], 0, factors())
        .value("llama.rope.scaling.type", TEXT, text("yarn"));
    let (_folder, path) = both.write();
    let error = Checkpoint::open(&path).unwrap_err().to_string();
    assert!(
        error.contains("is yarn beside `rope_freqs.weight`"),
        "{error}"
    );
}

#[test]
fn metadata_are_typed() {
    let (_folder, path) = llama().write();
    let file = Gguf::open(&path).unwrap();
    assert_eq!(file.text("general.architecture").unwrap(), "llama");
    assert_eq!(
        file.texts("tokenizer.ggml.tokens").unwrap(),
        ["a", "b", "c"]
    );
    assert_eq!(
        file.value("llama.block_count"),
        Some(&GgufValue::Integer(1))
    );
    let error = file.count("general.architecture").unwrap_err().to_string();
    assert!(
        error.contains("`general.architecture` is Text(\"llama\"); accepted: a whole number"),
        "{error}"
    );
    let error = file.number("llama.none").unwrap_err().to_string();
    assert!(error.contains("missing `llama.none`"), "{error}");
}

#[test]
fn all_tensors_of_unknown_types_are_named() {
    let file = llama()
        .tensor("blk.0.ffn_up.weight", &[1, 256], 14, vec![0; 210])
        .tensor("blk.0.ffn_gate.weight", &[1, 256], 99, vec![0; 210]);
    let (_folder, path) = file.write();
    let error = Checkpoint::open(&path).unwrap().weights().unwrap_err();
    let CheckpointError::Tensors { problems, .. } = error else {
        panic!("{error}");
    };
    let accepted = "F32, F16, BF16, Q4_0, Q4_1, Q8_0";
    let problem = |name: &str, kind: &str| TensorProblem::Data {
        name: name.into(),
        reason: format!("its type is {kind}; accepted: {accepted}"),
    };
    assert_eq!(
        problems,
        [
            problem("blk.0.ffn_up.weight", "Q6_K"),
            problem("blk.0.ffn_gate.weight", "the unknown type 99"),
        ]
    );
}

#[test]
fn a_truncated_gguf_file_is_refused_wherever_it_ends() {
    let (_folder, path) = llama().write();
    let bytes = llama().bytes();
    for length in (0..bytes.len()).step_by(7) {
        std::fs::write(&path, &bytes[..length]).unwrap();
        let error = Checkpoint::open(&path).unwrap_err();
        assert!(
            matches!(&error, CheckpointError::Weights { path: named, .. } if *named == path),
            "{length} of {} bytes: {error}",
            bytes.len()
        );
        assert!(error.to_string().contains("is not a whole GGUF file"));
    }
}

#[test]
fn a_gguf_file_of_another_architecture_or_with_experts_is_refused() {
    let (_folder, path) = Writer::default()
        .value("general.architecture", TEXT, text("mamba"))
        .write();
    let error = Checkpoint::open(&path).unwrap_err();
    assert!(
        error
            .to_string()
            .ends_with("describes the architecture mamba; accepted: llama, qwen2, qwen3"),
        "{error}"
    );
    let (_folder, path) = llama().count("llama.expert_count", 8).write();
    let error = Checkpoint::open(&path).unwrap_err().to_string();
    assert!(
        error.contains("`llama.expert_count` is 8; accepted: 0"),
        "{error}"
    );
}
