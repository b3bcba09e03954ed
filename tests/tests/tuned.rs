//! The fastest of the engines and tiles of a device.

use std::thread;

use attention_core::{AttentionSpec, CausalAlignment, DType};
use attention_kernels::catalog::Entry;
use attention_models::{
    cli::verify::case::Case,
    ops::{AttentionOptions, Engine},
};

use crate::support::{assert_within_bounds, devices};

/// A case of so many queries that is tuned.
fn tuned(seq_q: usize) -> Case {
    let spec = AttentionSpec::default().with_causal(CausalAlignment::BottomRight);
    let entry = Entry::new(
        format!("{seq_q} queries, tuned"),
        [1, 2, 1, seq_q, 90, 32, 32],
    );
    Case::of(&entry.with_spec(spec))
        .with_code(move |_| AttentionOptions::from(spec).with_engine(Engine::Tuned))
}

#[test]
fn the_fastest_choice_agrees_with_the_oracle_forward_and_backward() {
    assert_within_bounds(&tuned(70), DType::F32);
}

#[test]
fn threads_that_tune_the_same_at_once_and_later_calls_get_the_same_bits() {
    let case = tuned(171).rounded_to(DType::F32);
    for kind in devices() {
        let device = kind.open().expect("the device was found");
        let run = || {
            let outputs = case.ours(DType::F32, &device);
            outputs.expect("the case is accepted")
        };
        let mut runs: Vec<_> = thread::scope(|scope| {
            let threads = [(); 3].map(|()| scope.spawn(run));
            threads.map(|thread| thread.join().expect("it ran")).into()
        });
        runs.push(run());
        assert_eq!(runs[0].len(), 5);
        for again in &runs[1..] {
            for ((name, first), (_, again)) in runs[0].iter().zip(again) {
                let bits = |values: &[f64]| values.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
                assert_eq!(bits(first), bits(again), "{kind} {name}");
            }
        }
    }
}
