//! Burn's own attention behind our interface computes what ours computes, or is refused.

use std::panic::{AssertUnwindSafe, catch_unwind};

use attention_core::CausalAlignment;
use attention_models::ops::{
    AttentionError, AttentionOptions, attention,
    comparison::{burn_attention, with_burn_attention},
    try_attention, variants,
};
use burn::tensor::{Bool, Device, Tensor, TensorData, Tolerance};

/// From -1 to 1, the same for the same shape: other tests draw from the device's generator.
fn numbers(shape: [usize; 4], device: &Device) -> Tensor<4> {
    let count: usize = shape.iter().product();
    let scattered = (0..count).map(|index| (index * 7919 % 1013) as f32 / 506.0 - 1.0);
    Tensor::from_data(TensorData::new(scattered.collect(), shape), device)
}

/// Output and gradients of grouped heads under everything that both have.
fn all_options(attend: impl Fn([Tensor<4>; 3], AttentionOptions) -> Tensor<4>) -> [Tensor<4>; 4] {
    let device = Device::flex().autodiff();
    let inputs = [[2, 4, 5, 8], [2, 2, 9, 8], [2, 2, 9, 16]]
        .map(|shape| numbers(shape, &device).require_grad());
    let mut hidden = [[false; 9]; 2];
    hidden[1][0] = true;
    let mask = Tensor::<2, Bool>::from_data(hidden, &device).reshape([2, 1, 1, 9]);
    let options = AttentionOptions::default()
        .with_causal(CausalAlignment::BottomRight)
        .with_scale(0.7)
        .with_softcap(3.0)
        .with_mask(mask)
        .with_bias(numbers([1, 4, 5, 9], &device));
    let out = attend(inputs.clone(), options);
    let weights = numbers([2, 4, 5, 16], &device);
    let gradients = (out.clone() * weights).sum().backward();
    let [query, key, value] = inputs.map(|input| input.grad(&gradients).expect("asked for"));
    [out.inner(), query, key, value]
}

#[test]
fn burns_attention_gives_the_results_and_gradients_of_ours() {
    let ours = all_options(|[query, key, value], options| attention(query, key, value, options));
    let burns = all_options(|[query, key, value], options| {
        with_burn_attention(|| attention(query, key, value, options))
    });
    for (ours, burns) in ours.into_iter().zip(burns) {
        ours.into_data()
            .assert_approx_eq::<f32>(&burns.into_data(), Tolerance::absolute(1e-5));
    }
}

#[test]
fn what_burns_attention_does_not_have_is_refused() {
    let tokens = numbers([1, 2, 5, 8], &Device::flex());
    let code = AttentionOptions::default().with_mask_mod(variants::causal(0));
    let attend = || try_attention(tokens.clone(), tokens.clone(), tokens.clone(), code.clone());
    let refused = with_burn_attention(attend).expect_err("Burn has no code");
    assert!(
        matches!(
            refused,
            AttentionError::Value {
                argument: "mask_mod",
                ..
            }
        ),
        "{refused}"
    );
    attend().expect("ours again");

    let top_left = AttentionOptions::default().with_causal(CausalAlignment::TopLeft);
    let fewer = tokens.clone().narrow(2, 0, 3);
    let refused = burn_attention(fewer, tokens.clone(), tokens, top_left);
    assert!(
        matches!(
            refused,
            Err(AttentionError::Value {
                argument: "causal",
                ..
            })
        ),
        "{refused:?}"
    );
}

#[test]
fn ours_runs_again_after_a_panic_under_burns() {
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        with_burn_attention(|| panic!("a model's"));
    }));
    assert!(panicked.is_err());
    let tokens = numbers([1, 2, 5, 8], &Device::flex());
    let options = AttentionOptions::default().with_mask_mod(variants::causal(0));
    try_attention(tokens.clone(), tokens.clone(), tokens, options).expect("ours");
}
