//! Every option of exact attention, alone and combined, on lengths that fill no block.

use attention_core::{AttentionSpec, CausalAlignment, oracle::Inputs};

use super::case::{Case, random, random_mask};

/// The sizes of a case: `[batch, heads, kv_heads, seq_q, seq_kv, head_dim, value_dim]`.
pub type Sizes = [usize; 7];

/// A case without options, of random inputs.
pub fn case(name: &str, sizes: Sizes) -> Case {
    let [batch, heads, kv_heads, seq_q, seq_kv, head_dim, value_dim] = sizes;
    Case {
        name: name.to_string(),
        inputs: Inputs {
            query: random([batch, heads, seq_q, head_dim], 1),
            key: random([batch, kv_heads, seq_kv, head_dim], 2),
            value: random([batch, kv_heads, seq_kv, value_dim], 3),
            mask: None,
            bias: None,
        },
        spec: AttentionSpec::default(),
        grad_out: random([batch, heads, seq_q, value_dim], 4),
        known: Vec::new(),
    }
}

impl Case {
    /// With these scalar options.
    pub fn with_spec(mut self, spec: AttentionSpec) -> Self {
        self.spec = spec;
        self
    }

    /// With a random mask of this shape.
    pub fn with_mask(mut self, shape: [usize; 4]) -> Self {
        self.inputs.mask = Some(random_mask(shape, 5));
        self
    }

    /// With a random bias of this shape.
    pub fn with_bias(mut self, shape: [usize; 4]) -> Self {
        self.inputs.bias = Some(random(shape, 6));
        self
    }
}

/// The cases that `attention verify` runs.
pub fn cases() -> Vec<Case> {
    use CausalAlignment::{BottomRight, TopLeft};
    const SIZES: Sizes = [2, 4, 2, 37, 53, 64, 64];
    let new = |name: &str| case(&format!("softmax/{name}"), SIZES);
    let spec = AttentionSpec::default;
    vec![
        case("softmax/self", [1, 2, 2, 67, 67, 64, 64]),
        new("grouped-heads"),
        case("softmax/one-kv-head", [1, 6, 1, 19, 19, 32, 32]),
        new("causal-bottom-right").with_spec(spec().with_causal(BottomRight)),
        new("causal-top-left").with_spec(spec().with_causal(TopLeft)),
        new("scale").with_spec(spec().with_scale(0.31)),
        new("softcap").with_spec(spec().with_softcap(1.5)),
        new("padding-mask").with_mask([2, 1, 1, 53]),
        new("full-mask").with_mask([2, 4, 37, 53]),
        new("bias-per-head").with_bias([1, 4, 37, 53]),
        new("bias-per-key").with_bias([2, 1, 1, 53]),
        new("everything")
            .with_spec(
                spec()
                    .with_causal(BottomRight)
                    .with_scale(0.2)
                    .with_softcap(2.0),
            )
            .with_mask([2, 1, 37, 53])
            .with_bias([1, 4, 37, 53]),
        case("softmax/one-query", [2, 4, 4, 1, 131, 64, 64]),
        case("softmax/head-dim-40", [1, 2, 2, 33, 33, 40, 40]),
        case(
            "softmax/head-dim-111-value-dim-256",
            [1, 2, 2, 17, 17, 111, 256],
        ),
    ]
}
