//! Output, log-sum-exp and gradients against the float64 oracle.
//!
//! The sweep over options runs on flex, all options together run on every device: Burn's matrix
//! products, which the bound is taken from, are compiled anew for every shape elsewhere. The
//! kernels themselves are swept on every device by the workspace's own tests.

use attention_core::{AttentionSpec, CausalAlignment};
use burn::tensor::{DType, Device};

use crate::{
    bound::assert_agree_with_the_oracle,
    support::{Case, Loss, devices},
};

fn causal(alignment: CausalAlignment) -> AttentionSpec {
    AttentionSpec::default().with_causal(alignment)
}

/// Every option at once.
fn all_together() -> Case {
    Case {
        heads: 6,
        kv_heads: 2,
        seq_q: 7,
        seq_kv: 19,
        value_dim: 24,
        spec: causal(CausalAlignment::BottomRight)
            .with_softcap(2.0)
            .with_scale(0.4),
        mask: Some([2, 1, 7, 19]),
        bias: Some([1, 6, 7, 19]),
        ..Case::new([2, 6, 13, 16])
    }
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
        all_together(),
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
    assert_agree_with_the_oracle(&cases(), Loss::Out, &Device::flex());
}

#[test]
fn all_options_together_agree_with_the_oracle_on_every_device() {
    for device in devices() {
        assert_agree_with_the_oracle(&[all_together()], Loss::Both, &device);
    }
}

#[test]
fn gradients_flow_through_the_log_sum_exp_alone() {
    assert_agree_with_the_oracle(&cases(), Loss::Lse, &Device::flex());
}

#[test]
fn gradients_of_output_and_log_sum_exp_add_up() {
    assert_agree_with_the_oracle(&cases(), Loss::Both, &Device::flex());
}

#[test]
fn half_precisions_agree_with_the_oracle_forward_and_backward() {
    for dtype in [DType::F16, DType::BF16] {
        let cases: Vec<_> = cases()
            .into_iter()
            .map(|case| Case { dtype, ..case })
            .collect();
        assert_agree_with_the_oracle(&cases, Loss::Both, &Device::flex());
    }
}
