//! The kernels on a bare client, over shapes, options and dtypes, on every runtime.
//!
//! The unfused run that bounds them is that of flex: its errors depend on dtype and values, hardly on
//! the device, and compiling Burn's matrix products for every shape would take hours on some.

use std::collections::BTreeMap;

use attention_core::{AttentionSpec, CausalAlignment, DType, oracle::Mask4};
use attention_kernels::{
    catalog::{self, Entry, Sizes},
    softmax::Engine,
};
use attention_models::{
    cli::verify::{
        bound,
        case::{Case, Outputs},
        distance, largest,
    },
    device::DeviceKind,
};
use cubecl::client::Client;

use crate::support::{Layout, devices, run_engine, run_kernels};

/// The largest error of each output.
type Errors = BTreeMap<&'static str, f64>;

/// Runs every case on every runtime that offers the dtype and reports all that is out of bounds.
fn assert_within_bounds(cases: &[Case], dtype: DType, layout: Layout) {
    assert_engines_within_bounds(cases, dtype, layout, |_| vec![Engine::Auto]);
}

/// [`assert_within_bounds`] on the engines that are chosen for a device.
pub(crate) fn assert_engines_within_bounds(
    cases: &[Case],
    dtype: DType,
    layout: Layout,
    engines: impl Fn(&Client) -> Vec<Engine>,
) {
    let mut failures = Vec::new();
    for case in cases {
        let case = case.rounded_to(dtype);
        let expected = case.expected().expect("the oracle accepts the case");
        let peers = unfused_errors(&case, dtype, &expected);
        for kind in devices().into_iter().filter(|kind| offers(*kind, dtype)) {
            let client = kind.client().expect("the device was found");
            for engine in engines(&client) {
                let ours = run_engine(engine, &client, &case, dtype, layout);
                let errors = errors(&ours, &expected);
                for (name, expected) in &expected {
                    let error = errors[name];
                    let dtype = if *name == "lse" { DType::F32 } else { dtype };
                    let bound = bound(peers[name], dtype, largest(expected));
                    if !(error.is_finite() && error <= bound) {
                        let case = &case.name;
                        failures.push(format!(
                            "{kind} {engine} {dtype} {case} {name}: {error:e}, bound {bound:e}"
                        ));
                    }
                }
            }
        }
    }
    assert!(failures.is_empty(), "\n{}", failures.join("\n"));
}

pub(crate) fn offers(kind: DeviceKind, dtype: DType) -> bool {
    let facts = kind.facts().expect("the device was found");
    facts.dtypes.contains(&dtype)
}

/// None where a sequence is empty, for Burn's operations do not run there; nor where the unfused
/// run overflows, as `f16` may.
fn unfused_errors(case: &Case, dtype: DType, expected: &Outputs) -> Errors {
    if expected.iter().any(|(_, values)| values.is_empty()) {
        return expected.iter().map(|(name, _)| (*name, 0.0)).collect();
    }
    let flex = DeviceKind::Cpu.open().expect("flex is always there");
    let unfused = case.unfused(dtype, &flex).expect("Burn accepts the case");
    let finite = |(name, error): (_, f64)| (name, if error.is_finite() { error } else { 0.0 });
    errors(&unfused, expected).into_iter().map(finite).collect()
}

fn errors(outputs: &Outputs, expected: &Outputs) -> Errors {
    let error = |(name, expected): &(&'static str, Vec<f64>)| {
        let output = outputs.iter().find(|(other, _)| other == name);
        let values = output.map_or(&[][..], |(_, values)| values);
        (*name, distance(values, expected))
    };
    expected.iter().map(error).collect()
}

/// Random inputs of these sizes, without options.
fn case(name: &str, sizes: Sizes) -> Case {
    Case::of(&Entry::new(name, sizes))
}

fn catalog() -> Vec<Case> {
    catalog::softmax().iter().map(Case::of).collect()
}

/// All options at once.
pub(crate) fn everything() -> impl Iterator<Item = Case> {
    let cases = catalog().into_iter();
    cases.filter(|case| case.name.ends_with("everything"))
}

fn causal() -> AttentionSpec {
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

pub(crate) fn head_dims(dims: &[(usize, usize)]) -> Vec<Case> {
    let cases = dims.iter().map(|&(head_dim, value_dim)| {
        let name = format!("head dim {head_dim}, value dim {value_dim}");
        case(&name, [1, 2, 1, 33, 47, head_dim, value_dim])
    });
    cases.collect()
}

/// Every shape that masks and biases broadcast from, and the options together.
fn broadcasts() -> Vec<Case> {
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
fn keys_in_parts() -> Vec<Case> {
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
    entries.iter().map(Case::of).collect()
}

/// Sums over many more tokens than a step has.
fn long_sums() -> Vec<Case> {
    let sizes = [
        [1, 1, 1, 29, 1031, 64, 64],
        [1, 1, 1, 1031, 29, 64, 64],
        [1, 1, 1, 23, 4099, 32, 32],
        [1, 1, 1, 4099, 23, 32, 32],
        [1, 1, 1, 1500, 1500, 64, 64],
        [1, 1, 1, 16411, 23, 32, 32],
        [1, 1, 1, 23, 16411, 32, 32],
        [1, 4, 2, 2111, 31, 128, 96],
    ];
    let entries = sizes.map(|sizes| Entry::new(format!("sums of {sizes:?}"), sizes));
    entries.iter().map(Case::of).collect()
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

const HEAD_DIMS: [(usize, usize); 16] = [
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

#[test]
fn every_length_agrees_with_the_oracle() {
    assert_within_bounds(&lengths(), DType::F32, Layout::Contiguous);
}

#[test]
fn every_head_dim_agrees_with_the_oracle() {
    assert_within_bounds(&head_dims(&HEAD_DIMS), DType::F32, Layout::Contiguous);
}

#[test]
fn masks_and_biases_of_every_shape_agree_with_the_oracle() {
    assert_within_bounds(&broadcasts(), DType::F32, Layout::Contiguous);
}

#[test]
fn every_option_and_their_combination_agree_with_the_oracle() {
    assert_within_bounds(&catalog(), DType::F32, Layout::Contiguous);
}

#[test]
fn rows_without_keys_give_zero_and_no_gradient() {
    assert_within_bounds(&rows_without_keys(), DType::F32, Layout::Contiguous);
}

#[test]
fn keys_in_parts_combine_to_what_all_of_them_give() {
    for dtype in [DType::F32, DType::F16] {
        assert_within_bounds(&keys_in_parts(), dtype, Layout::Contiguous);
    }
}

#[test]
fn long_sums_agree_with_the_oracle() {
    assert_within_bounds(&long_sums(), DType::F32, Layout::Contiguous);
}

#[test]
fn large_scores_agree_with_the_oracle() {
    assert_within_bounds(&large_scores(40.0), DType::F32, Layout::Contiguous);
}

#[test]
fn views_of_sequence_major_tensors_are_read_as_they_lie() {
    let mut cases = head_dims(&[(64, 64), (59, 111)]);
    cases.extend(broadcasts().into_iter().skip(5).take(2));
    assert_within_bounds(&cases, DType::F32, Layout::SequenceMajor);
}

#[test]
fn half_precision_agrees_with_the_oracle() {
    assert_within_bounds(&large_scores(8.0), DType::F16, Layout::Contiguous);
    let mut cases = head_dims(&[(64, 64), (40, 40), (59, 111), (256, 256)]);
    cases.extend(lengths().into_iter().take(14));
    cases.extend(rows_without_keys());
    cases.extend(everything());
    assert_within_bounds(&cases, DType::F16, Layout::Contiguous);
}

#[test]
fn brain_floats_agree_with_the_oracle_where_they_are_offered() {
    let mut cases = head_dims(&[(64, 64), (59, 111)]);
    cases.extend(everything());
    assert_within_bounds(&cases, DType::BF16, Layout::Contiguous);
}

#[test]
fn the_same_inputs_give_the_same_bits() {
    for case in lengths().into_iter().skip(20).take(2).chain(everything()) {
        let case = case.rounded_to(DType::F32);
        for kind in devices() {
            let client = kind.client().expect("the device was found");
            let run = || run_kernels(&client, &case, DType::F32, Layout::Contiguous);
            let (first, again) = (run(), run());
            for ((name, first), (_, again)) in first.iter().zip(&again) {
                let same = first
                    .iter()
                    .zip(again)
                    .all(|(a, b)| a.to_bits() == b.to_bits());
                assert!(same, "{kind} {} {name}", case.name);
            }
        }
    }
}
