use super::passes;

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
