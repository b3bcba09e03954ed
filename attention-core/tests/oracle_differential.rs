//! Differential attention's gradients against central finite differences of its forward pass.

mod support;

use attention_core::oracle::{
    Tensor4,
    differential::{self, Inputs},
};
use attention_core::{AttentionError, AttentionSpec, CausalAlignment};
use support::Case;

const STEP: f64 = 1e-5;
const BOUND: f64 = 1e-6;

/// Two maps whose numbers differ, over the values of the first.
fn inputs(case: &Case, lambda: &[f64]) -> Inputs {
    let other = Case {
        seed: case.seed + 1,
        ..case.clone()
    };
    let (first, second) = (case.inputs(), other.inputs());
    Inputs {
        query: [first.query, second.query],
        key: [first.key, second.key],
        value: first.value,
        lambda: lambda.to_vec(),
        mask: first.mask,
        bias: first.bias,
    }
}

fn loss(inputs: &Inputs, spec: &AttentionSpec, grad_out: &Tensor4) -> f64 {
    let out = differential::forward(inputs, spec).unwrap();
    out.data
        .iter()
        .zip(&grad_out.data)
        .map(|(a, b)| a * b)
        .sum()
}

fn check(case: &Case, lambda: &[f64]) {
    let inputs = inputs(case, lambda);
    let (grad_out, _) = case.upstream();
    let gradients = differential::backward(&inputs, &case.spec, &grad_out).unwrap();
    let differences = |numbers: &dyn Fn(&mut Inputs) -> &mut Vec<f64>, gradient: &[f64]| {
        let mut moved = inputs.clone();
        assert_eq!(numbers(&mut moved).len(), gradient.len());
        for (n, gradient) in gradient.iter().enumerate() {
            let at = numbers(&mut moved)[n];
            let mut loss_at = |value| {
                numbers(&mut moved)[n] = value;
                loss(&moved, &case.spec, &grad_out)
            };
            let difference = (loss_at(at + STEP) - loss_at(at - STEP)) / (2.0 * STEP);
            loss_at(at);
            let error = (difference - gradient).abs();
            assert!(error <= BOUND * (1.0 + difference.abs()), "{n}: {case:?}");
        }
    };
    differences(&|i| &mut i.query[0].data, &gradients.query[0].data);
    differences(&|i| &mut i.query[1].data, &gradients.query[1].data);
    differences(&|i| &mut i.key[0].data, &gradients.key[0].data);
    differences(&|i| &mut i.key[1].data, &gradients.key[1].data);
    differences(&|i| &mut i.value.data, &gradients.value.data);
    differences(&|i| &mut i.lambda, &gradients.lambda);
    assert_eq!(gradients.bias.is_some(), case.bias.is_some());
    if let Some(bias) = &gradients.bias {
        differences(&|i| &mut i.bias.as_mut().unwrap().data, &bias.data);
    }
}

#[test]
fn gradients_are_the_finite_differences() {
    let shared = &[0.3][..];
    let of_each = &[0.3, -0.2, 0.0, 1.5][..];
    for (kv_heads, value_heads, lambda) in [
        (4, 4, shared),
        (2, 2, of_each),
        (4, 2, of_each),
        (1, 1, shared),
    ] {
        for (mask, bias) in [(None, None), (Some([2, 1, 3, 4]), Some([1, 4, 1, 4]))] {
            let mut case = Case::plain();
            case.problem.heads = 4;
            case.problem.kv_heads = kv_heads;
            case.problem.value_heads = value_heads;
            case.spec.causal = mask.map(|_| CausalAlignment::BottomRight);
            (case.mask, case.bias) = (mask, bias);
            check(&case, lambda);
        }
    }
}

#[test]
fn a_factor_of_zero_leaves_the_first_map() {
    let case = Case::plain();
    let out = differential::forward(&inputs(&case, &[0.0]), &case.spec).unwrap();
    let first = attention_core::oracle::forward(&case.inputs(), &case.spec).unwrap();
    assert_eq!(out, first.out);
}

#[test]
fn another_number_of_factors_than_heads_is_refused() {
    let case = Case::plain();
    let refusal = differential::forward(&inputs(&case, &[0.1, 0.2, 0.3]), &case.spec);
    let expected = AttentionError::Shape {
        argument: "lambda",
        given: vec![3],
        accepted: "[1] or [2]".into(),
    };
    assert_eq!(refusal, Err(expected));
}

#[test]
fn maps_that_differ_in_shape_are_refused() {
    let case = Case::plain();
    let mut unequal = inputs(&case, &[0.1]);
    unequal.query[1] = Tensor4::zeros([2, 2, 4, 3]);
    let refusal = differential::forward(&unequal, &case.spec).unwrap_err();
    let message = "`query[1]` has shape [2, 2, 4, 3]; accepted: [2, 2, 3, 3], that of map 1";
    assert_eq!(refusal.to_string(), message);
}
