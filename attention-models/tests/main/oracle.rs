//! Output, log-sum-exp and gradients against the float64 oracle.

use attention_core::{AttentionSpec, CausalAlignment};
use burn::tensor::DType;

use crate::support::{Case, Loss, assert_agree_with_the_oracle};

fn causal(alignment: CausalAlignment) -> AttentionSpec {
    AttentionSpec::default().with_causal(alignment)
}

/// Every option alone and all of them together, on lengths that fill no block.
fn cases() -> Vec<Case> {
    let plain = Case::new([2, 2, 13, 16]);
    let cross = Case {
        seq_q: 7,
        seq_kv: 19,
        value_dim: 24,
        ..plain
    };
    let grouped = Case {
        heads: 6,
        kv_heads: 2,
        ..cross
    };
    vec![
        plain,
        cross,
        grouped,
        Case {
            spec: causal(CausalAlignment::BottomRight),
            ..cross
        },
        Case {
            spec: causal(CausalAlignment::TopLeft),
            ..cross
        },
        Case {
            spec: AttentionSpec::default().with_scale(0.7),
            ..plain
        },
        Case {
            spec: AttentionSpec::default().with_softcap(1.5),
            ..plain
        },
        Case {
            mask: Some([2, 1, 1, 19]),
            ..grouped
        },
        Case {
            mask: Some([2, 6, 7, 19]),
            ..grouped
        },
        Case {
            bias: Some([2, 6, 7, 19]),
            ..grouped
        },
        Case {
            bias: Some([1, 6, 1, 19]),
            ..grouped
        },
        Case {
            bias: Some([1, 1, 7, 1]),
            ..grouped
        },
        Case {
            spec: causal(CausalAlignment::BottomRight)
                .with_softcap(2.0)
                .with_scale(0.4),
            mask: Some([2, 1, 7, 19]),
            bias: Some([1, 6, 7, 19]),
            ..grouped
        },
        Case {
            head_dim: 111,
            value_dim: 256,
            ..Case::new([2, 3, 13, 111])
        },
        Case::new([1, 3, 1, 1]),
        Case::new([1, 2, 67, 40]),
    ]
}

#[test]
fn every_option_agrees_with_the_oracle_forward_and_backward() {
    assert_agree_with_the_oracle(&cases(), Loss::Out);
}

#[test]
fn gradients_flow_through_the_log_sum_exp_alone() {
    assert_agree_with_the_oracle(&cases(), Loss::Lse);
}

#[test]
fn gradients_of_output_and_log_sum_exp_add_up() {
    assert_agree_with_the_oracle(&cases(), Loss::Both);
}

#[test]
fn half_precisions_agree_with_the_oracle_forward_and_backward() {
    for dtype in [DType::F16, DType::BF16] {
        let cases: Vec<_> = cases()
            .into_iter()
            .map(|case| Case { dtype, ..case })
            .collect();
        assert_agree_with_the_oracle(&cases, Loss::Both);
    }
}
