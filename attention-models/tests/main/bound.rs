//! The float64 oracle, and the bound that runs are held to.

use attention_core::oracle;
use attention_models::ops::{composition::unfused_attention, try_attention_with_lse};
use burn::tensor::{DType, Device, Tensor};

use crate::support::{Case, Inputs, Loss, Operation, Run, floats, fused, unfused};

/// The values that the tensors hold, for the float64 oracle.
fn problem(inputs: &Inputs) -> oracle::Inputs {
    oracle::Inputs {
        query: tensor(&inputs.query),
        key: tensor(&inputs.key),
        value: tensor(&inputs.value),
        mask: inputs.options.mask.as_ref().map(|mask| oracle::Mask4 {
            shape: mask.dims(),
            data: mask.clone().into_data().iter::<bool>().collect(),
        }),
        bias: inputs.options.bias.as_ref().map(tensor),
    }
}

fn tensor(tensor: &Tensor<4>) -> oracle::Tensor4 {
    oracle::Tensor4 {
        shape: tensor.dims(),
        data: floats(tensor.clone()),
    }
}

/// The float64 oracle on the values that the tensors hold.
fn expected(case: &Case, inputs: &Inputs, loss: Loss) -> Run {
    let problem = problem(inputs);
    let output = oracle::forward(&problem, &case.spec).expect("the oracle accepts the case");
    let mut grad_out = tensor(&inputs.grad_out);
    if loss == Loss::Lse {
        grad_out.data.fill(0.0);
    }
    let grad_lse = (loss != Loss::Out).then(|| floats(inputs.grad_lse.clone()));
    let gradients = oracle::backward(&problem, &case.spec, &grad_out, grad_lse.as_deref())
        .expect("the oracle accepts the case");
    Run {
        out: output.out.data,
        lse: output.lse,
        query: gradients.query.data,
        key: gradients.key.data,
        value: gradients.value.data,
        bias: gradients.bias.map(|bias| bias.data),
    }
}

/// Runs cases forward and backward on a device and holds them to the project's bound: no farther
/// from the oracle than twice what Burn's own operations are in the same dtype on the same device,
/// and two roundings.
pub fn assert_agree_with_the_oracle(cases: &[Case], loss: Loss, device: &Device) {
    let violations: Vec<_> = cases
        .iter()
        .flat_map(|case| violations_of(case, loss, device))
        .collect();
    assert!(violations.is_empty(), "{}", violations.join("\n"));
}

/// Runs a case's forward alone, which no backward pass follows, and holds it to the same bound, with flex's operations.
pub fn assert_output_agrees_with_the_oracle(case: &Case, inputs: &Inputs) {
    let run = |operation: Operation, device: &Device| {
        let [query, key, value] = [&inputs.query, &inputs.key, &inputs.value]
            .map(|tensor| tensor.clone().to_device(device));
        let (out, lse) = operation(query, key, value, inputs.options.clone())
            .expect("the inputs of a case are accepted");
        [floats(out), floats(lse)]
    };
    let device = inputs.query.device();
    let fused = run(try_attention_with_lse, &device);
    let unfused = run(unfused_attention, &Device::flex());
    let expected =
        oracle::forward(&problem(inputs), &case.spec).expect("the oracle accepts the case");
    let roundings = [rounding(case.dtype), rounding(DType::F32)];
    let names = ["out", "lse"].into_iter().zip(roundings);
    for (index, ((name, rounding), expected)) in
        names.zip([expected.out.data, expected.lse]).enumerate()
    {
        let refused = excess([&fused[index], &unfused[index], &expected], rounding);
        assert_eq!(refused, None, "{name} of {case:?} on {device:?}");
    }
}

/// One result of a run.
type Part = fn(&Run) -> Vec<f64>;

fn violations_of(case: &Case, loss: Loss, device: &Device) -> Vec<String> {
    let inputs = Inputs::new(case, &device.clone().autodiff());
    let (fused, unfused) = (fused(&inputs, loss), unfused(&inputs, loss));
    let expected = expected(case, &inputs, loss);
    let (rounding, exact) = (rounding(case.dtype), rounding(DType::F32));
    let compared: [(_, Part, _); 6] = [
        ("out", |run| run.out.clone(), rounding),
        ("lse", |run| run.lse.clone(), exact),
        ("query gradient", |run| run.query.clone(), rounding),
        ("key gradient", |run| run.key.clone(), rounding),
        ("value gradient", |run| run.value.clone(), rounding),
        (
            "bias gradient",
            |run| run.bias.clone().unwrap_or_default(),
            rounding,
        ),
    ];
    compared
        .into_iter()
        .filter_map(|(name, part, rounding)| {
            let refused = excess([&part(&fused), &part(&unfused), &part(&expected)], rounding);
            refused.map(|excess| format!("{name} of {case:?} on {device:?}: {excess}"))
        })
        .collect()
}

/// What is wrong with ours, beside the unfused run and the oracle.
fn excess([fused, unfused, expected]: [&[f64]; 3], rounding: f64) -> Option<String> {
    let (error, peer) = (distance(fused, expected), distance(unfused, expected));
    let bound = 2.0 * peer + 2.0 * rounding * largest(expected);
    (error > bound).then(|| format!("error {error:e}, bound {bound:e}"))
}

fn rounding(dtype: DType) -> f64 {
    match dtype {
        DType::F16 => attention_core::DType::F16.unit_roundoff(),
        DType::BF16 => attention_core::DType::BF16.unit_roundoff(),
        _ => attention_core::DType::F32.unit_roundoff(),
    }
}

fn largest(values: &[f64]) -> f64 {
    values
        .iter()
        .filter(|value| value.is_finite())
        .fold(0.0, |largest, value| value.abs().max(largest))
}

/// The largest difference; infinite unless every infinity is met exactly, and for any NaN.
fn distance(values: &[f64], expected: &[f64]) -> f64 {
    assert_eq!(values.len(), expected.len());
    values
        .iter()
        .zip(expected)
        .map(|(value, expected)| match (value - expected).abs() {
            _ if value == expected => 0.0,
            difference if difference.is_nan() => f64::INFINITY,
            difference => difference,
        })
        .fold(0.0, f64::max)
}
