//! The problems of the sweep.

use std::thread::available_parallelism;

use attention_core::{AttentionSpec, CausalAlignment, oracle::Mask4};
use attention_kernels::catalog::{self, Entry, Sizes};
use attention_models::cli::verify::case::Case;

/// Random inputs of these sizes, without options.
pub(crate) fn case(name: &str, sizes: Sizes) -> Case {
    Case::of(&Entry::new(name, sizes))
}

pub(crate) fn catalog() -> Vec<Case> {
    catalog::softmax().iter().map(Case::of).collect()
}

/// All options at once.
pub(crate) fn everything() -> impl Iterator<Item = Case> {
    let cases = catalog().into_iter();
    cases.filter(|case| case.name.ends_with("everything"))
}

pub(crate) fn causal() -> AttentionSpec {
    AttentionSpec::default().with_causal(CausalAlignment::BottomRight)
}

/// Primes, 1, 0 and the edges of tiles, queries and keys of different lengths.
pub(crate) fn lengths() -> Vec<Case> {
    const LENGTHS: [(usize, usize); 14] = [
        (1, 1),
        (2, 3),
        (7, 129),
        (31, 31),
        (63, 65),
        (64, 64),
        (65, 63),
        (127, 128),
        (128, 1),
        (1, 257),
        (101, 211),
        (513, 17),
        (0, 5),
        (5, 0),
    ];
    let cases = LENGTHS.into_iter().flat_map(|(seq_q, seq_kv)| {
        let name = format!("{seq_q} queries, {seq_kv} keys");
        let sizes = [1, 2, 2, seq_q, seq_kv, 64, 64];
        let causal = Entry::new(format!("{name}, causal"), sizes).with_spec(causal());
        [case(&name, sizes), Case::of(&causal)]
    });
    cases.collect()
}

/// So many rows that some devices multiply copies of f32.
pub(crate) fn many_rows() -> Vec<Case> {
    let everything = causal().with_scale(0.2).with_softcap(2.0);
    let entries = [
        Entry::new("many rows of 40", [2, 2, 1, 71, 101, 40, 40]),
        Entry::new(
            "many rows of 59, values of 111",
            [1, 2, 1, 101, 71, 59, 111],
        ),
        Entry::new("many rows, few keys", [1, 2, 2, 101, 37, 64, 64]),
        Entry::new("many rows, everything", [2, 8, 4, 71, 101, 32, 64])
            .with_value_heads(2)
            .with_spec(everything)
            .with_mask([2, 1, 71, 101])
            .with_bias([1, 8, 71, 101]),
    ];
    entries.iter().map(Case::of).collect()
}

/// As many heads of values as this machine has cores: each then computes the backward of whole heads.
pub(crate) fn heads_of_every_core() -> Vec<Case> {
    let cores = available_parallelism().expect("the system says").get();
    let everything = causal().with_scale(0.2).with_softcap(2.0);
    let entries = [
        Entry::new("a head for each core", [1, cores, cores, 71, 101, 64, 64]),
        Entry::new(
            "two heads for each core, everything",
            [1, 2 * cores, cores, 71, 101, 32, 64],
        )
        .with_spec(everything)
        .with_mask([1, 1, 71, 101])
        .with_bias([1, 2 * cores, 71, 101]),
    ];
    entries.iter().map(Case::of).collect()
}

pub(crate) fn head_dims(dims: &[(usize, usize)]) -> Vec<Case> {
    let cases = dims.iter().map(|&(head_dim, value_dim)| {
        let name = format!("head dim {head_dim}, value dim {value_dim}");
        case(&name, [1, 2, 1, 33, 47, head_dim, value_dim])
    });
    cases.collect()
}

/// Every shape that masks and biases broadcast from, and the options together.
pub(crate) fn broadcasts() -> Vec<Case> {
    const SHAPES: [[usize; 4]; 6] = [
        [2, 4, 19, 23],
        [1, 4, 19, 23],
        [2, 1, 19, 23],
        [2, 1, 1, 23],
        [1, 4, 19, 1],
        [1, 1, 1, 1],
    ];
    let new = |name: String| Entry::new(name, [2, 4, 2, 19, 23, 32, 32]);
    let masks = SHAPES[..5]
        .iter()
        .map(|shape| new(format!("mask {shape:?}")).with_mask(*shape));
    let biases = SHAPES
        .iter()
        .map(|shape| new(format!("bias {shape:?}")).with_bias(*shape));
    masks.chain(biases).map(|entry| Case::of(&entry)).collect()
}

/// Rows whose mask or causality lets no key through.
pub(crate) fn rows_without_keys() -> Vec<Case> {
    let mut masked = case("masked rows", [1, 2, 2, 35, 29, 32, 32]);
    let hidden = (0..35 * 29).map(|index| [0, 5, 33, 34].contains(&(index / 29)));
    masked.inputs.mask = Some(Mask4::new([1, 1, 35, 29], hidden.collect()));
    let mut all = case("everything masked", [1, 2, 2, 9, 70, 32, 32]);
    all.inputs.mask = Some(Mask4::new([1, 1, 1, 70], vec![true; 70]));
    let before = Entry::new(
        "causal rows before the first key",
        [1, 2, 2, 75, 29, 32, 32],
    );
    let causal = Case::of(&before.with_spec(causal()));
    let mut parts = case(
        "everything masked, keys in parts",
        [1, 1, 1, 2, 777, 32, 32],
    );
    parts.inputs.mask = Some(Mask4::new([1, 1, 1, 777], vec![true; 777]));
    vec![masked, all, causal, parts]
}

/// So few rows that several cubes, or cores, share one.
pub(crate) fn keys_in_parts() -> Vec<Case> {
    let everything = causal().with_scale(0.2).with_softcap(2.0);
    let unseen = AttentionSpec::default().with_causal(CausalAlignment::TopLeft);
    let entries = [
        Entry::new("keys in parts", [1, 1, 1, 29, 1031, 64, 64]),
        Entry::new("parts that no query sees", [1, 1, 1, 31, 800, 32, 32]).with_spec(unseen),
        Entry::new("keys in parts, everything", [1, 1, 1, 23, 771, 32, 40])
            .with_spec(everything)
            .with_mask([1, 1, 23, 771])
            .with_bias([1, 1, 23, 771]),
        Entry::new("one query", [1, 2, 1, 1, 1500, 64, 64]),
    ];
    entries.iter().map(Case::of).chain(one_query()).collect()
}

/// Heads that share keys have one query each: they become the rows of one head, where nothing tells them apart.
pub(crate) fn one_query() -> Vec<Case> {
    let everything = causal().with_scale(0.2).with_softcap(2.0);
    let first_key = AttentionSpec::default().with_causal(CausalAlignment::TopLeft);
    let new = |name: &str, sizes| Entry::new(format!("one query, {name}"), sizes);
    let entries = [
        new("causal", [2, 6, 2, 1, 331, 64, 64]).with_spec(causal()),
        new("only the first key", [1, 4, 2, 1, 67, 32, 32]).with_spec(first_key),
        new("tables of every head", [2, 6, 2, 1, 771, 32, 40])
            .with_spec(everything)
            .with_mask([2, 6, 1, 771])
            .with_bias([1, 6, 1, 771]),
        new("tables of all heads", [2, 8, 1, 1, 131, 128, 128])
            .with_mask([2, 1, 1, 131])
            .with_bias([1, 1, 1, 131]),
        new("values of two key heads", [1, 8, 4, 1, 131, 32, 32]).with_value_heads(2),
        new("more heads than a tile has rows", [1, 34, 2, 1, 65, 64, 64]),
    ];
    entries.iter().map(Case::of).collect()
}

/// Sums over many more tokens than a step has.
pub(crate) fn long_sums() -> Vec<Case> {
    let sizes = [
        [1, 1, 1, 29, 1031, 64, 64],
        [1, 1, 1, 1031, 29, 64, 64],
        [1, 1, 1, 23, 4099, 32, 32],
        [1, 1, 1, 4099, 23, 32, 32],
        [1, 1, 1, 1500, 1500, 64, 64],
        [1, 1, 1, 16411, 23, 32, 32],
        [1, 1, 1, 23, 16411, 32, 32],
        [1, 4, 2, 2111, 31, 128, 96],
        [1, 1, 1, 23, 16411, 64, 64],
    ];
    let entries = sizes.map(|sizes| Entry::new(format!("sums of {sizes:?}"), sizes));
    let shared = Entry::new("sums of two key heads' values", [1, 2, 2, 4300, 17, 32, 32]);
    let shared = shared.with_value_heads(1);
    entries.iter().chain([&shared]).map(Case::of).collect()
}

/// Scores in the hundreds, positive and negative, where all but one weight vanish.
pub(crate) fn large_scores(factor: f64) -> Vec<Case> {
    let plain = Entry::new("large scores", [1, 2, 2, 41, 67, 64, 64]);
    let biased = Entry {
        name: "large scores, bias".into(),
        ..plain.clone().with_bias([1, 1, 41, 67])
    };
    let cases = [plain, biased].into_iter().map(|entry| {
        let mut case = Case::of(&entry);
        for value in &mut case.inputs.query.data {
            *value *= factor;
        }
        case
    });
    cases.collect()
}

pub(crate) const HEAD_DIMS: [(usize, usize); 16] = [
    (32, 32),
    (40, 40),
    (59, 59),
    (64, 32),
    (72, 72),
    (80, 80),
    (96, 96),
    (111, 111),
    (128, 128),
    (160, 160),
    (192, 192),
    (256, 256),
    (40, 256),
    (256, 40),
    (59, 111),
    (1, 1),
];
