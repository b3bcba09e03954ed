//! The kernels on a bare client, over shapes, options and dtypes, on every runtime.
//!
//! The unfused run that bounds them is that of flex: its errors depend on dtype and values, hardly on
//! the device, and compiling Burn's matrix products for every shape would take hours on some.

use std::collections::BTreeMap;

use attention_core::DType;
use attention_kernels::softmax::Engine;
use attention_models::{
    cli::verify::{
        bound,
        case::{Case, Outputs},
        distance, largest,
    },
    device::DeviceKind,
};
use cubecl::client::Client;

use crate::{
    cases::{
        HEAD_DIMS, broadcasts, catalog, everything, head_dims, heads_of_every_core, keys_in_parts,
        large_scores, lengths, long_sums, many_rows, one_query, rows_without_keys,
    },
    support::{Layout, run_engine, run_kernels, runtimes, runtimes_of_case},
};

/// The largest error of each output.
type Errors = BTreeMap<&'static str, f64>;

/// Runs every case on its runtimes ([`runtimes_of_case`]) that offer the dtype and reports all that is out of bounds.
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
    for (nth, case) in cases.iter().enumerate() {
        let case = case.rounded_to(dtype);
        let expected = case.expected().expect("the oracle accepts the case");
        let peers = unfused_errors(&case, dtype, &expected);
        let kinds = runtimes_of_case(nth).into_iter();
        for kind in kinds.filter(|kind| offers(*kind, dtype)) {
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
    // One by one, so that every runtime takes all of them.
    for case in catalog() {
        assert_within_bounds(&[case], DType::F32, Layout::Contiguous);
    }
}

#[test]
fn rows_without_keys_give_zero_and_no_gradient() {
    assert_within_bounds(&rows_without_keys(), DType::F32, Layout::Contiguous);
}

#[test]
fn a_head_for_each_core_agrees_with_the_oracle() {
    assert_within_bounds(&heads_of_every_core(), DType::F32, Layout::Contiguous);
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
    cases.extend(many_rows());
    assert_within_bounds(&cases, DType::F16, Layout::Contiguous);
    let tables_of_every_head = one_query().into_iter().skip(2).take(1);
    cases = many_rows()
        .into_iter()
        .chain(tables_of_every_head)
        .collect();
    assert_within_bounds(&cases, DType::F16, Layout::SequenceMajor);
}

#[test]
fn brain_floats_agree_with_the_oracle_where_they_are_offered() {
    let mut cases = head_dims(&[(64, 64), (59, 111)]);
    cases.extend(everything());
    cases.extend(many_rows());
    assert_within_bounds(&cases, DType::BF16, Layout::Contiguous);
}

#[test]
fn the_same_inputs_give_the_same_bits() {
    for case in lengths().into_iter().skip(20).take(2).chain(everything()) {
        let case = case.rounded_to(DType::F32);
        for kind in runtimes() {
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
