//! Every kernel in every configuration that tests, the compile matrix and benchmarks walk through.

use attention_core::{AttentionError, AttentionShapes, AttentionSpec, CausalAlignment};

use crate::modification::{Mask, Modification, ScoreMod, WeightMod};

/// One configuration of exact attention.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// The mechanism, and what is special about the configuration.
    pub name: String,
    /// The shapes of its tensors.
    pub shapes: AttentionShapes,
    /// Its scalar options.
    pub spec: AttentionSpec,
}

/// `[batch, heads, kv_heads, seq_q, seq_kv, head_dim, value_dim]`
pub type Sizes = [usize; 7];

impl Entry {
    /// Attention of these sizes without options.
    pub fn new(name: impl Into<String>, sizes: Sizes) -> Self {
        let [batch, heads, kv_heads, seq_q, seq_kv, head_dim, value_dim] = sizes;
        Self {
            name: name.into(),
            shapes: AttentionShapes {
                query: [batch, heads, seq_q, head_dim],
                key: [batch, kv_heads, seq_kv, head_dim],
                value: [batch, kv_heads, seq_kv, value_dim],
                mask: None,
                bias: None,
            },
            spec: AttentionSpec::default(),
        }
    }

    /// With this many heads of values: a divisor of the key heads.
    pub fn with_value_heads(mut self, value_heads: usize) -> Self {
        self.shapes.value[1] = value_heads;
        self
    }

    /// With these scalar options.
    pub fn with_spec(mut self, spec: AttentionSpec) -> Self {
        self.spec = spec;
        self
    }

    /// With a boolean mask of this shape.
    pub fn with_mask(mut self, shape: [usize; 4]) -> Self {
        self.shapes.mask = Some(shape);
        self
    }

    /// With an additive bias of this shape.
    pub fn with_bias(mut self, shape: [usize; 4]) -> Self {
        self.shapes.bias = Some(shape);
        self
    }
}

/// Exact attention: every option alone and all of them combined, on lengths that fill no block.
pub fn softmax() -> Vec<Entry> {
    use CausalAlignment::{BottomRight, TopLeft};
    const SIZES: Sizes = [2, 4, 2, 37, 53, 64, 64];
    let new = |name: &str| Entry::new(format!("softmax/{name}"), SIZES);
    let spec = AttentionSpec::default;
    let everything = spec()
        .with_causal(BottomRight)
        .with_scale(0.2)
        .with_softcap(2.0);
    vec![
        Entry::new("softmax/self", [1, 2, 2, 67, 67, 64, 64]),
        new("grouped-heads"),
        Entry::new("softmax/one-kv-head", [1, 6, 1, 19, 19, 32, 32]),
        Entry::new("softmax/value-heads", [2, 4, 4, 37, 53, 40, 64]).with_value_heads(2),
        Entry::new("softmax/one-value-head", [1, 4, 4, 21, 35, 32, 16]).with_value_heads(1),
        Entry::new(
            "softmax/value-heads-grouped-heads-everything",
            [2, 8, 4, 37, 53, 32, 64],
        )
        .with_value_heads(2)
        .with_spec(everything)
        .with_mask([2, 1, 37, 53])
        .with_bias([1, 8, 37, 53]),
        new("causal-bottom-right").with_spec(spec().with_causal(BottomRight)),
        new("causal-top-left").with_spec(spec().with_causal(TopLeft)),
        new("scale").with_spec(spec().with_scale(0.31)),
        new("softcap").with_spec(spec().with_softcap(1.5)),
        new("padding-mask").with_mask([2, 1, 1, 53]),
        new("full-mask").with_mask([2, 4, 37, 53]),
        new("bias-per-head").with_bias([1, 4, 37, 53]),
        new("bias-per-key").with_bias([2, 1, 1, 53]),
        new("everything")
            .with_spec(everything)
            .with_mask([2, 1, 37, 53])
            .with_bias([1, 4, 37, 53]),
        Entry::new("softmax/one-query", [2, 4, 4, 1, 131, 64, 64]),
        Entry::new("softmax/few-queries", [1, 2, 2, 23, 311, 128, 128]),
        Entry::new("softmax/head-dim-40", [1, 2, 2, 33, 33, 40, 40]),
        Entry::new(
            "softmax/head-dim-111-value-dim-256",
            [1, 2, 2, 17, 17, 111, 256],
        ),
    ]
}

/// A call with one of [`variants`](crate::variants) as code.
#[derive(Debug, Clone, PartialEq)]
pub struct Variant {
    /// The function's name.
    pub name: &'static str,
    /// The function, and the lengths of what it captured.
    pub modification: Modification,
}

/// Every variant, for attention of `heads` heads over `seq` queries and as many keys of `batch`
/// sequences.
///
/// # Errors
/// None that these sizes could cause: those of the variants' own checks.
pub fn variants(batch: u32, heads: u32, seq: u32) -> Result<Vec<Variant>, AttentionError> {
    use crate::variants as v;
    // A captured tensor is its length here.
    let score = |name, score: ScoreMod<u32>| (name, Some(score), None, None);
    let mask = |name, mask: Mask<u32>| (name, None, Some(mask), None);
    let weight = |name, weight: WeightMod<u32>| (name, None, None, Some(weight));
    let scores = batch * heads * seq * seq;
    let calls = vec![
        mask("causal", v::causal(0)),
        mask("sliding_window", v::sliding_window(7, 3, 0)),
        mask("dilated_window", v::dilated_window(3, 2)),
        mask("prefix_lm", v::prefix_lm(batch)),
        mask("same_document", v::same_document(seq, seq)),
        mask("flagged_tokens", v::flagged_tokens(seq)),
        mask("first_tokens", v::first_tokens(4)),
        mask("padding", v::padding(batch)),
        mask("key_range", v::key_range(seq, seq)),
        mask("strided", v::strided(4)),
        mask("fixed_summary", v::fixed_summary(8, 2)),
        mask("big_bird", v::big_bird(8, seq, 1, heads * seq.div_ceil(8))),
        score("alibi", v::alibi(heads, 0)),
        score(
            "relative_position_bias",
            v::relative_position_bias(heads * 8, 17, 8, true, 0),
        ),
        score("grid_position_bias", v::grid_position_bias(heads * 9, 2, 2)),
        score("softcap", v::softcap(30.0)),
        weight("dropout", v::dropout(0.1, 7)?),
        weight("dropout_seeded_by", v::dropout_seeded_by(0.1, 2)?),
        weight(
            "given_dropout",
            v::given_dropout(0.1, scores, [batch, heads, seq, seq])?,
        ),
    ];
    let variant = |(name, score, mask, weight)| {
        let length = |length: &u32| *length;
        let (modification, _) = Modification::new(score, mask, weight, (length, length));
        Variant { name, modification }
    };
    Ok(calls.into_iter().map(variant).collect())
}
