//! Score modifications and masks as code that no golden has, and what is refused of code.

use attention_core::{
    AttentionSpec, DType,
    oracle::{self, Tensor4},
};
use attention_kernels::{
    catalog::Entry,
    modification::{Captured, Lanes, Place},
    variants,
};
use attention_models::{
    cli::verify::{
        case::{Case, Outputs},
        upload,
    },
    ops::{AttentionOptions, ScoreMod},
};
use burn::tensor::{Device, Tensor};
use cubecl::prelude::*;

use crate::support::{assert_within_bounds, out_of_bounds};

#[test]
fn a_grid_position_bias_reads_the_entry_of_the_offset() {
    const GRID: [usize; 2] = [3, 5];
    let [height, width] = GRID;
    let entries = (2 * height - 1) * (2 * width - 1);
    let table: Vec<f32> = (0..2 * entries).map(|n| (n as f32 * 0.7).sin()).collect();
    let mut case = Case::of(&Entry::new("grid", [2, 2, 2, 15, 15, 16, 16]));
    let term = |head: usize, i: usize, j: usize| {
        let dy = i / width + height - 1 - j / width;
        let dx = i % width + width - 1 - j % width;
        f64::from(table[head * entries + dy * (2 * width - 1) + dx])
    };
    let terms = (0..2 * 15 * 15).map(|n| term(n / 225, n / 15 % 15, n % 15));
    case.inputs.bias = Some(Tensor4::new([1, 2, 15, 15], terms.collect()));
    let case = case.with_code(move |device| {
        let table = Tensor::from_data(table.as_slice(), device);
        let bias = variants::grid_position_bias(table, height as u32, width as u32);
        AttentionOptions::default().with_score_mod(bias)
    });
    assert_within_bounds(&case, DType::F32);
}

/// Scores shrink with the distance, and by an amount that depends on the head.
#[cube]
fn fading(at: &Place, captured: &Captured) -> Vector<f32, Lanes> {
    let distance = max(at.query, at.key) - min(at.query, at.key);
    let fade = Vector::<f32, Lanes>::cast_from(distance) * Vector::new(captured.number(0usize));
    let strength = captured.float(0usize, at.head);
    Vector::new(strength) / (Vector::new(1.0f32) + fade)
}

#[test]
fn a_factor_is_multiplied_in_and_passes_the_gradient_on() {
    let strengths = [1.0f32, 0.5, 2.0, 1.5];
    let factor = move |head: usize, i: usize, j: usize| {
        f64::from(strengths[head]) / (1.0 + 0.25 * i.abs_diff(j) as f64)
    };
    let case =
        Case::of(&Entry::new("fading", [1, 4, 4, 21, 30, 16, 16])).with_code(move |device| {
            let strengths = Tensor::from_data(strengths.as_slice(), device);
            let fading = ScoreMod::multiplicative(fading::expand)
                .with_number(0.25)
                .with_floats(strengths);
            AttentionOptions::default().with_score_mod(fading)
        });
    let score = move |score: f64, [_, head, i, j]: [usize; 4]| {
        let factor = factor(head, i, j);
        (score * factor, factor)
    };
    let modification = oracle::Modification {
        score: Some(&score),
        visible: None,
        weight: None,
    };
    let spec = AttentionSpec::default();
    let case = case.rounded_to(DType::F32);
    let forward = oracle::forward_modified(&case.inputs, &spec, modification).expect("it fits");
    let backward =
        oracle::backward_modified(&case.inputs, &spec, modification, &case.grad_out, None)
            .expect("it fits");
    let expected = vec![
        ("out", forward.out.data),
        ("lse", forward.lse),
        ("dq", backward.query.data),
        ("dk", backward.key.data),
        ("dv", backward.value.data),
    ];
    let factors = (0..4 * 21 * 30).map(|n| factor(n / 630, n / 30 % 21, n % 30));
    let factors = Tensor4::new([1, 4, 21, 30], factors.collect());
    let unfused = unfused_with_factors(&case, &factors);
    let failures = out_of_bounds(&case.name, DType::F32, &expected, &unfused, |device| {
        case.ours(DType::F32, device).expect("the case is accepted")
    });
    assert!(failures.is_empty(), "\n{}", failures.join("\n"));
}

/// The case by Burn's own operations, with its scores multiplied by `factors`.
fn unfused_with_factors(case: &Case, factors: &Tensor4) -> Outputs {
    let device = Device::flex().autodiff();
    let tracked = |tensor: &Tensor4| upload(tensor, DType::F32, &device).require_grad();
    let [query, key, value] =
        [&case.inputs.query, &case.inputs.key, &case.inputs.value].map(tracked);
    let scores = query.clone().matmul(key.clone().swap_dims(2, 3)) / 4.0;
    let scores = scores * upload(factors, DType::F32, &device);
    let max = scores.clone().detach().max_dim(3);
    let weights = (scores - max.clone()).exp();
    let sum = weights.clone().sum_dim(3);
    let out = (weights / sum.clone()).matmul(value.clone());
    let gradients = (out.clone() * upload(&case.grad_out, DType::F32, &device))
        .sum()
        .backward();
    let read = |tensor: Tensor<4>| tensor.into_data().iter::<f64>().collect::<Vec<_>>();
    let gradient = |tensor: &Tensor<4>| read(tensor.grad(&gradients).expect("it is tracked"));
    vec![
        ("out", read(out)),
        ("lse", read(sum.log() + max)),
        ("dq", gradient(&query)),
        ("dk", gradient(&key)),
        ("dv", gradient(&value)),
    ]
}
