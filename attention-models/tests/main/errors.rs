//! Each kind of bad input: the argument is named, what was given and what is accepted.

use attention_core::CausalAlignment;
use attention_models::ops::{AttentionError, AttentionOptions, attention, try_attention};
use burn::tensor::{Bool, DType, Device, Tensor};

fn zeros(shape: [usize; 4]) -> Tensor<4> {
    Tensor::zeros(shape, &Device::flex())
}

fn refusal(
    query: Tensor<4>,
    key: Tensor<4>,
    value: Tensor<4>,
    options: AttentionOptions,
) -> AttentionError {
    try_attention(query, key, value, options).expect_err("the input is bad")
}

/// Self-attention of zeros `[2, 4, 5, 8]` with `options`.
fn refusal_of(options: AttentionOptions) -> AttentionError {
    let tensor = zeros([2, 4, 5, 8]);
    refusal(tensor.clone(), tensor.clone(), tensor, options)
}

fn shape_error(argument: &'static str, given: &[usize], accepted: &str) -> AttentionError {
    AttentionError::Shape {
        argument,
        given: given.to_vec(),
        accepted: accepted.into(),
    }
}

#[test]
fn head_dims_that_differ_are_refused() {
    let value = zeros([1, 2, 5, 8]);
    let error = refusal(
        zeros([1, 2, 5, 8]),
        zeros([1, 2, 5, 16]),
        value,
        AttentionOptions::default(),
    );
    let accepted = "[1, kv_heads, seq_kv, 8] for the query's shape [1, 2, 5, 8]";
    assert_eq!(error, shape_error("key", &[1, 2, 5, 16], accepted));
}

#[test]
fn kv_heads_that_do_not_divide_the_heads_are_refused() {
    let key = zeros([1, 3, 5, 8]);
    let error = refusal(
        zeros([1, 8, 5, 8]),
        key.clone(),
        key,
        AttentionOptions::default(),
    );
    let accepted = "a number of heads that divides the query's 8";
    assert_eq!(error, shape_error("key", &[1, 3, 5, 8], accepted));
}

#[test]
fn a_value_of_another_length_than_the_key_is_refused() {
    let tensor = zeros([1, 2, 5, 8]);
    let error = refusal(
        tensor.clone(),
        tensor,
        zeros([1, 2, 6, 8]),
        AttentionOptions::default(),
    );
    let accepted = "[1, value_heads, 5, value_dim] for the key's shape [1, 2, 5, 8]";
    assert_eq!(error, shape_error("value", &[1, 2, 6, 8], accepted));
}

#[test]
fn a_mask_that_does_not_broadcast_is_refused() {
    let mask = Tensor::<4, Bool>::full([2, 1, 5, 6], false, &Device::flex());
    let error = refusal_of(AttentionOptions::default().with_mask(mask));
    let accepted = "[2 or 1, 4 or 1, 5 or 1, 5 or 1] (batch, heads, seq_q, seq_kv)";
    assert_eq!(error, shape_error("mask", &[2, 1, 5, 6], accepted));
}

#[test]
fn a_bias_that_does_not_broadcast_is_refused() {
    let error = refusal_of(AttentionOptions::default().with_bias(zeros([1, 2, 5, 5])));
    let accepted = "[2 or 1, 4 or 1, 5 or 1, 5 or 1] (batch, heads, seq_q, seq_kv)";
    assert_eq!(error, shape_error("bias", &[1, 2, 5, 5], accepted));
}

#[test]
fn a_head_dim_of_257_is_refused() {
    let tensor = zeros([1, 1, 2, 257]);
    let error = refusal(
        tensor.clone(),
        tensor.clone(),
        tensor,
        AttentionOptions::default(),
    );
    let accepted = "a head dimension from 1 to 256";
    assert_eq!(error, shape_error("query", &[1, 1, 2, 257], accepted));
}

#[test]
fn an_empty_batch_is_refused() {
    let tensor = zeros([0, 1, 2, 8]);
    let error = refusal(
        tensor.clone(),
        tensor.clone(),
        tensor,
        AttentionOptions::default(),
    );
    let accepted = "at least one batch element and one head";
    assert_eq!(error, shape_error("query", &[0, 1, 2, 8], accepted));
}

#[test]
fn mixed_dtypes_are_refused() {
    let tensor = zeros([1, 2, 5, 8]);
    let half = tensor.clone().cast(DType::F16);
    let error = refusal(tensor.clone(), half, tensor, AttentionOptions::default());
    assert_eq!(error.to_string(), "`key` has dtype f16; accepted: f32");
}

#[test]
fn a_bias_of_another_dtype_is_refused() {
    let bias = zeros([1, 1, 5, 5]).cast(DType::F16);
    let error = refusal_of(AttentionOptions::default().with_bias(bias));
    assert_eq!(error.to_string(), "`bias` has dtype f16; accepted: f32");
}

#[test]
fn f64_is_refused() {
    let tensor = zeros([1, 2, 5, 8]).cast(DType::F64);
    let error = refusal(
        tensor.clone(),
        tensor.clone(),
        tensor,
        AttentionOptions::default(),
    );
    let message = error.to_string();
    assert!(
        message.starts_with("`query` has dtype f64; accepted: f32, f16, bf16 on "),
        "{message}"
    );
}

#[cfg(feature = "cpu")]
#[test]
fn mixed_devices_are_refused() {
    let tensor = zeros([1, 2, 5, 8]);
    let elsewhere = Tensor::<4>::from_data(tensor.to_data(), &Device::cpu());
    let error = refusal(
        tensor.clone(),
        tensor,
        elsewhere,
        AttentionOptions::default(),
    );
    assert!(
        matches!(
            error,
            AttentionError::Device {
                argument: "value",
                ..
            }
        ),
        "{error}"
    );
}

#[test]
fn a_scale_that_is_not_a_number_is_refused() {
    let error = refusal_of(AttentionOptions::default().with_scale(f64::NAN));
    assert_eq!(
        error.to_string(),
        "`scale` is NaN; accepted: a number that is finite in f32"
    );
}

#[test]
fn a_softcap_of_zero_is_refused() {
    let error = refusal_of(AttentionOptions::default().with_softcap(0.0));
    assert_eq!(
        error.to_string(),
        "`softcap` is 0; accepted: a number that is finite and above 0 in f32"
    );
}

#[test]
#[should_panic(expected = "`key` has shape [1, 3, 5, 8]; accepted: a number of heads that divides")]
fn the_plain_form_panics_with_the_same_message() {
    let key = zeros([1, 3, 5, 8]);
    let options = AttentionOptions::default().with_causal(CausalAlignment::TopLeft);
    let _ = attention(zeros([1, 8, 5, 8]), key.clone(), key, options);
}
