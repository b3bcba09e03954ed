//! What other people's code computed, on every device.

use attention_models::{
    cli::verify::{Devices, Golden, Report},
    device::DeviceKind,
};
use burn::tensor::Device;

use crate::support::{devices, golden};

/// Checks a golden on a device, beside an unfused run on `unfused` or on the same device.
fn check(name: &str, kind: DeviceKind, unfused: Option<&Device>) -> Report {
    let ours = &kind.open().expect("the device was found");
    let unfused = unfused.unwrap_or(ours);
    let mut report = Report::default();
    Golden::new(&golden(name)).check(Devices { ours, unfused }, &mut report, |_| {});
    report
}

/// How many outputs passed; none may not.
fn passed(name: &str, kind: DeviceKind, unfused: Option<&Device>) -> usize {
    let report = check(name, kind, unfused);
    assert_eq!(report.failed() + report.skipped(), 0, "{kind}\n{report}");
    report.passed()
}

fn passes(name: &str, outputs: usize) {
    for kind in devices() {
        let passed = passed(name, kind, Some(&Device::flex()));
        assert_eq!(passed, outputs, "{name} on {kind}");
    }
}

/// Bounded by an unfused run on the same device: the gradient of a sink or of lambda is a sum over everything,
/// Burn's, and as exact as that is there. `cubecl-cpu` tries unfused ones for minutes and is left out.
fn passes_beside_its_own(name: &str, outputs: usize) {
    for kind in devices() {
        if kind != DeviceKind::CubeclCpu {
            assert_eq!(passed(name, kind, None), outputs, "{name} on {kind}");
        }
    }
}

/// Models run on the devices that people run models on; WGSL is checked by the operations. So is `cubecl-cpu`, which
/// compiles hundreds of Burn's operations for a model in every process.
fn devices_of_models() -> impl Iterator<Item = DeviceKind> {
    let left_out = [DeviceKind::Wgpu, DeviceKind::CubeclCpu];
    let runs = move |kind: &DeviceKind| !left_out.contains(kind);
    devices().into_iter().filter(runs)
}

fn model_passes(name: &str, outputs: usize) {
    for kind in devices_of_models() {
        let passed = passed(name, kind, Some(&Device::flex()));
        assert_eq!(passed, outputs, "{name} on {kind}");
    }
}

#[test]
fn attention_computes_what_torch_computes_forward_and_backward() {
    // Thirteen cases of five outputs, and the gradient of one bias.
    passes("models/op_sdpa", 13 * 5 + 1);
}

#[test]
fn code_computes_what_flex_attention_computes_forward_and_backward() {
    passes("models/op_flex", 10 * 5);
}

#[test]
fn multi_head_attention_computes_what_torch_computes() {
    passes("models/op_mha", 4);
}

#[test]
fn both_causal_alignments_agree_with_the_golden() {
    passes("mechanisms/causal_alignment", 9 * 5);
}

#[test]
fn fully_masked_rows_agree_with_the_golden() {
    passes("mechanisms/fully_masked_rows", 3 * 5);
}

#[test]
fn softcap_agrees_with_the_golden() {
    passes("mechanisms/softcap", 3 * 5);
}

#[test]
fn alibi_as_code_agrees_with_the_golden() {
    passes("mechanisms/alibi", 2 * 5);
}

#[test]
fn relative_position_buckets_as_code_agree_with_the_golden() {
    passes("mechanisms/t5_relative_bias", 3 * 5);
}

#[test]
fn prefix_lm_as_code_agrees_with_the_golden() {
    passes("mechanisms/prefix_lm", 2 * 5);
}

#[test]
fn longformer_as_code_agrees_with_the_golden() {
    passes("mechanisms/longformer_mask", 4 * 5);
}

#[test]
fn big_bird_as_code_agrees_with_the_golden() {
    passes("mechanisms/bigbird_mask", 2 * 5);
}

#[test]
fn sparse_transformer_as_code_agrees_with_the_golden() {
    passes("mechanisms/sparse_transformer", 8 * 5);
}

#[test]
fn learned_sinks_agree_with_the_golden() {
    let (name, outputs) = ("mechanisms/attention_sinks", 3 * 6);
    passes_beside_its_own(name, outputs);
    let kind = DeviceKind::CubeclCpu;
    if devices().contains(&kind) {
        assert_eq!(passed(name, kind, Some(&Device::flex())), outputs, "{kind}");
    }
}

#[test]
fn split_keys_and_a_zigzag_ring_merge_to_the_golden() {
    // Whole: 2 outputs. Split in 4, 3 and 4: each part's two and the merged two. A ring of 2, 3 and 4
    // ranks: the two of each rank and the log-sum-exp of each pair. All with three gradients.
    let whole = 3 * 2;
    let split = 2 * (4 + 3 + 4) + 3 * 2;
    let ring = (2 * 2 + 2 * 2) + (2 * 3 + 3 * 3) + (2 * 4 + 4 * 4);
    passes("mechanisms/split_kv_ring", whole + split + ring + 9 * 3);
}

#[test]
fn differential_attention_agrees_with_the_golden() {
    passes_beside_its_own("mechanisms/differential_attention", 4 * 8);
}

#[test]
fn packed_sequences_agree_with_the_golden() {
    passes("mechanisms/varlen_packed", 8 * 5);
}

#[test]
fn dropout_by_a_given_mask_agrees_with_the_golden() {
    passes("mechanisms/dropout_given_mask", 3 * 5);
}

#[test]
fn rotary_positions_and_their_scalings_agree_with_the_golden() {
    // Four cases of queries and keys with their gradients, four scalings with frequencies.
    passes("mechanisms/rope", 4 * 4 + 4 * 3);
}

#[test]
fn vit_computes_what_transformers_computes() {
    model_passes("models/vit", 3);
}

#[test]
fn deit_computes_what_transformers_computes() {
    model_passes("models/deit", 5);
}

#[test]
fn dinov2_computes_what_transformers_computes() {
    model_passes("models/dinov2", 4);
}

#[test]
fn the_vision_tower_of_clip_computes_what_transformers_computes() {
    model_passes("models/clip_vision", 4);
}

#[test]
fn a_vit_with_registers_computes_what_timm_computes() {
    model_passes("models/timm_vit", 2);
}

#[test]
fn a_pretrained_dinov2_computes_what_transformers_computes_at_both_sizes() {
    for kind in devices_of_models() {
        let report = check("pretrained/dinov2_s14.safetensors", kind, None);
        assert_eq!(report.failed(), 0, "{kind}\n{report}");
        if report.skipped() > 0 {
            let required = std::env::var_os("ATTENTION_REQUIRE_WEIGHTS").is_some();
            assert!(!required, "{report}");
            eprintln!("{report}");
            return;
        }
        assert!(report.passed() > 0, "{kind}\n{report}");
    }
}
