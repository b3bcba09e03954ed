use attention_models::cli::verify_models::check_model_golden;

use super::golden;
use crate::support::devices;

pub(super) fn passes(name: &str, outputs: &[&str]) {
    for device in devices() {
        let folder = golden(name);
        let file = folder.join("io.safetensors");
        let rows = check_model_golden(name, &file, &folder, &device).unwrap();
        let names: Vec<_> = rows.iter().map(|row| row.name.as_str()).collect();
        assert_eq!(names, outputs);
        for row in rows {
            assert!(row.passes(), "{name} on {device:?}: {row:?}");
        }
    }
}

#[test]
fn vit_computes_what_transformers_computes() {
    passes("vit", &["attentions", "hidden_states", "logits"]);
}

#[test]
fn deit_computes_what_transformers_computes() {
    let outputs = [
        "attentions",
        "cls_logits",
        "distillation_logits",
        "hidden_states",
        "logits",
    ];
    passes("deit", &outputs);
}

#[test]
fn beit_computes_what_transformers_computes() {
    passes("beit", &["attentions", "hidden_states", "logits"]);
}

#[test]
fn dinov2_computes_what_transformers_computes() {
    let outputs = [
        "attentions",
        "hidden_states",
        "last_hidden_state",
        "pooler_output",
    ];
    passes("dinov2", &outputs);
}

#[test]
fn the_vision_tower_of_clip_computes_what_transformers_computes() {
    let outputs = [
        "attentions",
        "hidden_states",
        "last_hidden_state",
        "pooler_output",
    ];
    passes("clip_vision", &outputs);
}

#[test]
fn a_vit_with_registers_computes_what_timm_computes() {
    passes("timm_vit", &["features", "logits"]);
}
