//! What is written in configuration files.

use attention_core::{AttentionProblem, AttentionSpec, CausalAlignment, DType};

fn read(json: &str) -> serde_json::Result<AttentionSpec> {
    serde_json::from_str(json)
}

#[test]
fn a_spec_survives_being_written_and_read() {
    for causal in [
        None,
        Some(CausalAlignment::TopLeft),
        Some(CausalAlignment::BottomRight),
    ] {
        for scale in [None, Some(0.125), Some(-0.3)] {
            for softcap in [None, Some(1e-3), Some(50.0)] {
                let spec = AttentionSpec {
                    causal,
                    scale,
                    softcap,
                };
                let json = serde_json::to_string(&spec).unwrap();
                assert_eq!(read(&json).unwrap(), spec);
            }
        }
    }
}

#[test]
fn a_spec_is_written_in_snake_case() {
    let spec = AttentionSpec::default()
        .with_causal(CausalAlignment::BottomRight)
        .with_softcap(50.0);
    assert_eq!(
        serde_json::to_value(spec).unwrap(),
        serde_json::json!({ "causal": "bottom_right", "scale": null, "softcap": 50.0 })
    );
}

#[test]
fn fields_that_are_left_out_keep_their_defaults() {
    assert_eq!(read("{}").unwrap(), AttentionSpec::default());
    assert_eq!(
        read(r#"{ "causal": "top_left" }"#).unwrap(),
        AttentionSpec::default().with_causal(CausalAlignment::TopLeft)
    );
}

#[test]
fn an_unknown_field_is_refused_by_name() {
    let error = read(r#"{ "soft_cap": 50.0 }"#).unwrap_err().to_string();
    assert!(error.contains("unknown field `soft_cap`"), "{error}");
    assert!(error.contains("`causal`, `scale`, `softcap`"), "{error}");
}

#[test]
fn an_unknown_alignment_is_refused_with_those_that_exist() {
    let error = read(r#"{ "causal": "left" }"#).unwrap_err().to_string();
    assert!(error.contains("`bottom_right`"), "{error}");
    assert!(error.contains("`top_left`"), "{error}");
}

#[test]
fn a_dtype_is_written_as_it_is_displayed() {
    for dtype in [DType::F32, DType::F16, DType::BF16] {
        let json = serde_json::to_value(dtype).unwrap();
        assert_eq!(json, dtype.to_string());
        assert_eq!(serde_json::from_value::<DType>(json).unwrap(), dtype);
    }
}

#[test]
fn a_problem_survives_being_written_and_read() {
    let problem = AttentionProblem {
        batch: 1,
        heads: 8,
        kv_heads: 2,
        value_heads: 2,
        seq_q: 3,
        seq_kv: 4,
        head_dim: 5,
        value_dim: 6,
    };
    let json = serde_json::to_string(&problem).unwrap();
    let read: AttentionProblem = serde_json::from_str(&json).unwrap();
    assert_eq!(read, problem);
}
