//! The oracle's gradients against central finite differences of its own forward pass.

mod support;

use attention_core::oracle::{self, Inputs, Tensor4};
use attention_core::{AttentionProblem, AttentionSpec, CausalAlignment};
use proptest::prelude::*;
use support::Case;

/// The step of the differences: their error is about `STEP^2` from the third derivative and
/// `1e-15 / STEP` from rounding.
const STEP: f64 = 1e-5;

/// Far above both errors, far below any wrong term.
const BOUND: f64 = 1e-6;

/// `sum(out * grad_out) + sum(lse * grad_lse)`, without the rows that see no key.
fn loss(case: &Case, inputs: &Inputs, grad_out: &Tensor4, grad_lse: Option<&[f64]>) -> f64 {
    let output = oracle::forward(inputs, &case.spec).unwrap();
    let of_out: f64 = (output.out.data.iter().zip(&grad_out.data))
        .map(|(out, grad)| out * grad)
        .sum();
    let of_lse: f64 = (output.lse.iter().zip(grad_lse.unwrap_or_default()))
        .filter(|(lse, _)| lse.is_finite())
        .map(|(lse, grad)| lse * grad)
        .sum();
    of_out + of_lse
}

/// Moves every element of one input up and down, and compares the loss with the gradient.
fn check_input(
    case: &Case,
    name: &str,
    gradient: &Tensor4,
    input: impl Fn(&mut Inputs) -> &mut Tensor4,
    loss: impl Fn(&Inputs) -> f64,
) {
    let mut inputs = case.inputs();
    assert_eq!(gradient.shape, input(&mut inputs).shape, "{name}");
    for n in 0..gradient.data.len() {
        let at = input(&mut inputs).data[n];
        input(&mut inputs).data[n] = at + STEP;
        let above = loss(&inputs);
        input(&mut inputs).data[n] = at - STEP;
        let below = loss(&inputs);
        input(&mut inputs).data[n] = at;
        let difference = (above - below) / (2.0 * STEP);
        let error = (difference - gradient.data[n]).abs();
        assert!(
            error <= BOUND * (1.0 + difference.abs()),
            "{name}[{n}]: gradient {}, finite difference {difference}, {case:?}",
            gradient.data[n]
        );
    }
}

fn check(case: &Case, with_grad_lse: bool) {
    let (grad_out, grad_lse) = case.upstream();
    let grad_lse = with_grad_lse.then_some(grad_lse.as_slice());
    let gradients = oracle::backward(&case.inputs(), &case.spec, &grad_out, grad_lse).unwrap();
    let loss = |inputs: &Inputs| loss(case, inputs, &grad_out, grad_lse);
    check_input(case, "query", &gradients.query, |i| &mut i.query, loss);
    check_input(case, "key", &gradients.key, |i| &mut i.key, loss);
    check_input(case, "value", &gradients.value, |i| &mut i.value, loss);
    assert_eq!(gradients.bias.is_some(), case.bias.is_some());
    if let Some(gradient) = &gradients.bias {
        check_input(case, "bias", gradient, |i| i.bias.as_mut().unwrap(), loss);
    }
}

/// Every shape that broadcasts to this one, and nothing at all.
fn broadcasts(full: [usize; 4]) -> Vec<Option<[usize; 4]>> {
    let kept = |bits: usize| {
        let mut shape = full;
        for (n, size) in shape.iter_mut().enumerate() {
            if bits & (1 << n) == 0 {
                *size = 1;
            }
        }
        Some(shape)
    };
    (0..16).map(kept).chain([None]).collect()
}

fn causals() -> [Option<CausalAlignment>; 3] {
    [
        None,
        Some(CausalAlignment::TopLeft),
        Some(CausalAlignment::BottomRight),
    ]
}

fn problems() -> impl Strategy<Value = AttentionProblem> {
    (
        1..3usize,
        1..3usize,
        1..3usize,
        1..3usize,
        0..5usize,
        0..5usize,
        1..4usize,
        1..4usize,
    )
        .prop_map(
            |(batch, value_heads, sharing, group, seq_q, seq_kv, head_dim, value_dim)| {
                AttentionProblem {
                    batch,
                    heads: value_heads * sharing * group,
                    kv_heads: value_heads * sharing,
                    value_heads,
                    seq_q,
                    seq_kv,
                    head_dim,
                    value_dim,
                }
            },
        )
}

fn specs() -> impl Strategy<Value = AttentionSpec> {
    let options = |values: [f64; 2]| prop::option::of(prop::sample::select(values.to_vec()));
    (
        prop::sample::select(causals().to_vec()),
        options([0.3, -1.5]),
        options([0.8, 20.0]),
    )
        .prop_map(|(causal, scale, softcap)| AttentionSpec {
            causal,
            scale,
            softcap,
        })
}

fn cases() -> impl Strategy<Value = Case> {
    (problems(), specs()).prop_flat_map(|(problem, spec)| {
        let shapes = || prop::sample::select(broadcasts(problem.scores_shape()));
        (shapes(), shapes(), any::<u64>()).prop_map(move |(mask, bias, seed)| Case {
            problem,
            spec,
            mask,
            bias,
            seed,
        })
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn gradients_are_the_finite_differences_for_any_combination(
        case in cases(),
        with_grad_lse in any::<bool>(),
    ) {
        check(&case, with_grad_lse);
    }
}

#[test]
fn gradients_are_the_finite_differences_for_every_setting_of_the_options_together() {
    let full = [2, 4, 3, 4];
    for causal in causals() {
        for scale in [None, Some(0.7)] {
            for softcap in [None, Some(1.5)] {
                for (mask, bias) in [(None, None), (Some([2, 1, 1, 4]), Some(full))] {
                    for (kv_heads, value_heads, with_grad_lse) in
                        [(4, 4, false), (4, 2, true), (2, 1, true), (1, 1, true)]
                    {
                        let mut case = Case::plain();
                        case.problem.heads = 4;
                        case.problem.kv_heads = kv_heads;
                        case.problem.value_heads = value_heads;
                        case.spec = AttentionSpec {
                            causal,
                            scale,
                            softcap,
                        };
                        (case.mask, case.bias) = (mask, bias);
                        check(&case, with_grad_lse);
                    }
                }
            }
        }
    }
}

#[test]
fn gradients_are_the_finite_differences_for_every_broadcast_of_mask_and_bias() {
    for shape in broadcasts(Case::plain().problem.scores_shape()) {
        for (mask, bias) in [(shape, None), (None, shape), (shape, shape)] {
            let mut case = Case::plain();
            (case.mask, case.bias) = (mask, bias);
            check(&case, true);
        }
    }
}

#[test]
fn gradients_are_the_finite_differences_for_more_queries_than_keys() {
    for causal in causals() {
        let mut case = Case::plain();
        case.problem.seq_q = 5;
        case.problem.seq_kv = 2;
        case.spec.causal = causal;
        check(&case, true);
    }
}
