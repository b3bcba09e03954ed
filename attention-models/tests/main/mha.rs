//! The module against Burn's own, and what it adds.

use attention_core::{AttentionSpec, CausalAlignment};
use attention_models::nn::{MhaInput, MultiHeadAttention, MultiHeadAttentionConfig};
use attention_models::ops::{AttentionError, AttentionOptions, attention};
use burn::{
    module::Module,
    nn::{RotaryEncodingConfig, attention as burn_attention},
    tensor::{Bool, DType, Device, Tensor, TensorData, Tolerance},
};

use crate::support::{devices, floats, random};

const D_MODEL: usize = 32;

fn tokens(batch: usize, seq: usize, width: usize, seed: u64, device: &Device) -> Tensor<3> {
    Tensor::<4>::from_data(random([batch, seq, width, 1], seed), device).squeeze_dim::<3>(3)
}

/// Burn's module and ours with its weights.
fn both(device: &Device) -> (burn_attention::MultiHeadAttention, MultiHeadAttention) {
    let theirs = burn_attention::MultiHeadAttentionConfig::new(D_MODEL, 4)
        .with_dropout(0.0)
        .init(device);
    let ours = MultiHeadAttention::from_burn(theirs.clone()).expect("the module is plain");
    (theirs, ours)
}

fn assert_close<const D: usize>(ours: Tensor<D>, theirs: Tensor<D>) {
    ours.into_data()
        .assert_approx_eq::<f32>(&theirs.into_data(), Tolerance::absolute(2e-6));
}

/// `[2, 6]`: the last two keys of the second sequence are padding.
fn padding(device: &Device) -> Tensor<2, Bool> {
    let mut padded = vec![false; 12];
    padded[10..].fill(true);
    Tensor::from_data(TensorData::new(padded, [2, 6]), device)
}

#[test]
fn with_burns_weights_self_attention_equals_burns() {
    for device in devices() {
        let (theirs, ours) = both(&device);
        let tokens = tokens(2, 6, D_MODEL, 1, &device);
        let expected = theirs.forward(burn_attention::MhaInput::self_attn(tokens.clone()));
        assert_close(ours.forward(MhaInput::self_attn(tokens)), expected.context);
    }
}

#[test]
fn with_burns_weights_padded_cross_attention_equals_burns() {
    for device in devices() {
        let (theirs, ours) = both(&device);
        let query = tokens(2, 3, D_MODEL, 1, &device);
        let (key, value) = (
            tokens(2, 6, D_MODEL, 2, &device),
            tokens(2, 6, D_MODEL, 3, &device),
        );
        let input = burn_attention::MhaInput::new(query.clone(), key.clone(), value.clone())
            .mask_pad(padding(&device));
        let expected = theirs.forward(input);
        let input = MhaInput::new(query, key, value).mask_pad(padding(&device));
        assert_close(ours.forward(input), expected.context);
    }
}

#[test]
fn with_burns_weights_both_masks_together_equal_burns() {
    for device in devices() {
        let (theirs, ours) = both(&device);
        let tokens = tokens(2, 6, D_MODEL, 4, &device);
        let later = burn_attention::generate_autoregressive_mask(2, 6, &device);
        let input = burn_attention::MhaInput::self_attn(tokens.clone())
            .mask_pad(padding(&device))
            .mask_attn(later.clone());
        let expected = theirs.forward(input);
        let input = MhaInput::self_attn(tokens)
            .mask_pad(padding(&device))
            .mask_attn(later);
        assert_close(ours.forward(input), expected.context);
    }
}

#[test]
fn a_record_of_burns_module_loads() {
    for device in devices() {
        let (theirs, _) = both(&device);
        let fresh = MultiHeadAttentionConfig::new(D_MODEL, 4).init(&device);
        let loaded = fresh.load_record(theirs.clone().into_record());
        let tokens = tokens(1, 5, D_MODEL, 5, &device);
        let expected = theirs.forward(burn_attention::MhaInput::self_attn(tokens.clone()));
        assert_close(
            loaded.forward(MhaInput::self_attn(tokens)),
            expected.context,
        );
    }
}

#[test]
fn weights_get_the_gradients_that_burns_get() {
    for device in devices() {
        let device = device.autodiff();
        let (theirs, ours) = both(&device);
        let tokens = tokens(2, 6, D_MODEL, 6, &device);
        let expected = theirs.forward(burn_attention::MhaInput::self_attn(tokens.clone()));
        let expected_gradients = expected.context.sum().backward();
        let gradients = ours.forward(MhaInput::self_attn(tokens)).sum().backward();
        for (ours, theirs) in [
            (&ours.query, &theirs.query),
            (&ours.key, &theirs.key),
            (&ours.value, &theirs.value),
        ] {
            let gradient = ours.weight.val().grad(&gradients).expect("weights train");
            let expected = theirs
                .weight
                .val()
                .grad(&expected_gradients)
                .expect("weights train");
            gradient
                .into_data()
                .assert_approx_eq::<f32>(&expected.into_data(), Tolerance::absolute(2e-4));
        }
    }
}

#[test]
fn burns_quiet_softmax_is_refused() {
    let theirs = burn_attention::MultiHeadAttentionConfig::new(D_MODEL, 4)
        .with_quiet_softmax(true)
        .init(&Device::flex());
    let error = MultiHeadAttention::from_burn(theirs).expect_err("another softmax");
    assert_eq!(
        error.to_string(),
        "`quiet_softmax` is true; accepted: false"
    );
}

#[test]
fn a_causal_module_equals_one_with_an_autoregressive_mask() {
    for device in devices() {
        let spec = AttentionSpec::default().with_causal(CausalAlignment::BottomRight);
        let causal = MultiHeadAttentionConfig::new(D_MODEL, 4)
            .with_spec(spec)
            .init(&device);
        let plain = MultiHeadAttention {
            spec: AttentionSpec::default(),
            ..causal.clone()
        };
        let tokens = tokens(2, 6, D_MODEL, 7, &device);
        let later = burn_attention::generate_autoregressive_mask(2, 6, &device);
        let masked = plain.forward(MhaInput::self_attn(tokens.clone()).mask_attn(later));
        assert_eq!(
            floats(causal.forward(MhaInput::self_attn(tokens))),
            floats(masked)
        );
    }
}

#[test]
fn grouped_heads_and_other_widths_give_the_output_of_the_operation() {
    for device in devices() {
        let module = MultiHeadAttentionConfig::new(D_MODEL, 6)
            .with_n_kv_heads(Some(2))
            .with_head_dim(Some(8))
            .with_d_key(Some(20))
            .with_d_value(Some(12))
            .init(&device);
        let (query, key, value) = (
            tokens(2, 3, D_MODEL, 1, &device),
            tokens(2, 5, 20, 2, &device),
            tokens(2, 5, 12, 3, &device),
        );
        let heads = |tensor: Tensor<3>, heads: usize| {
            let [batch, seq, width] = tensor.dims();
            tensor
                .reshape([batch, seq, heads, width / heads])
                .swap_dims(1, 2)
        };
        let context = attention(
            heads(module.query.forward(query.clone()), 6),
            heads(module.key.forward(key.clone()), 2),
            heads(module.value.forward(value.clone()), 2),
            AttentionOptions::default(),
        );
        let merged: Tensor<3> = context.swap_dims(1, 2).reshape([2, 3, 48]);
        let expected = module.output.forward(merged);
        let output = module.forward(MhaInput::new(query, key, value));
        assert_eq!(floats(output), floats(expected));
    }
}

#[test]
fn rotary_positions_make_attention_depend_on_distance_alone() {
    for device in devices() {
        let module = MultiHeadAttentionConfig::new(D_MODEL, 4).init(&device);
        let rotary = RotaryEncodingConfig::new(64, 8).init(&device);
        let tokens = tokens(1, 6, D_MODEL, 8, &device);
        let at = |start: usize| {
            let encode = |query, key| (rotary.apply(query, start), rotary.apply(key, start));
            module
                .try_forward_with(MhaInput::self_attn(tokens.clone()), encode)
                .expect("the input fits")
        };
        assert_close(at(0), at(17));
        let plain = floats(module.forward(MhaInput::self_attn(tokens.clone())));
        assert_ne!(floats(at(0)), plain);
    }
}

#[test]
fn a_bias_per_head_changes_the_output_of_a_module() {
    for device in devices() {
        let module = MultiHeadAttentionConfig::new(D_MODEL, 4).init(&device);
        let tokens = tokens(1, 6, D_MODEL, 8, &device);
        let bias = Tensor::<4>::from_data(random([1, 4, 6, 6], 9), &device);
        let biased = module.forward(MhaInput::self_attn(tokens.clone()).bias(bias));
        let unbiased = module.forward(MhaInput::self_attn(tokens.clone()));
        let zero = Tensor::<4>::zeros([1, 1, 1, 1], &device);
        let zero = module.forward(MhaInput::self_attn(tokens).bias(zero));
        assert_ne!(floats(biased), floats(unbiased.clone()));
        assert_close(zero, unbiased);
    }
}

fn refusal(input: MhaInput) -> AttentionError {
    MultiHeadAttentionConfig::new(D_MODEL, 4)
        .init(&Device::flex())
        .try_forward(input)
        .expect_err("the input is bad")
}

#[test]
fn a_module_refuses_an_input_of_another_width() {
    let error = refusal(MhaInput::self_attn(tokens(2, 6, 31, 1, &Device::flex())));
    let message = "`query` has shape [2, 6, 31]; accepted: [2, 6, 32]";
    assert_eq!(error.to_string(), message);
}

#[test]
fn a_module_refuses_a_padding_mask_of_another_length() {
    let tokens = tokens(2, 5, D_MODEL, 1, &Device::flex());
    let error = refusal(MhaInput::self_attn(tokens).mask_pad(padding(&Device::flex())));
    assert_eq!(
        error.to_string(),
        "`mask_pad` has shape [2, 6]; accepted: [2, 5]"
    );
}

#[test]
fn a_module_refuses_an_input_of_another_dtype() {
    let tokens = tokens(2, 5, D_MODEL, 1, &Device::flex()).cast(DType::F16);
    let error = refusal(MhaInput::self_attn(tokens));
    assert_eq!(error.to_string(), "`query` has dtype f16; accepted: f32");
}

#[test]
fn a_module_refuses_an_empty_batch() {
    let error = refusal(MhaInput::self_attn(tokens(
        0,
        5,
        D_MODEL,
        1,
        &Device::flex(),
    )));
    let message =
        "`query` has shape [0, 4, 5, 8]; accepted: at least one batch element and one head";
    assert_eq!(error.to_string(), message);
}

#[test]
fn a_config_whose_heads_do_not_fit_is_refused() {
    let refused = |config: MultiHeadAttentionConfig| {
        let error = config
            .try_init(&Device::flex())
            .expect_err("the config is bad");
        error.to_string()
    };
    assert_eq!(
        refused(MultiHeadAttentionConfig::new(30, 4)),
        "`d_model` is 30; accepted: a multiple of n_heads = 4, or a head_dim"
    );
    assert_eq!(
        refused(MultiHeadAttentionConfig::new(32, 8).with_n_kv_heads(Some(3))),
        "`n_kv_heads` is 3; accepted: a divisor of n_heads = 8"
    );
    assert_eq!(
        refused(MultiHeadAttentionConfig::new(32, 0)),
        "`n_heads` is 0; accepted: at least 1"
    );
    assert_eq!(
        refused(MultiHeadAttentionConfig::new(1028, 4)),
        "`head_dim` is 257; accepted: from 1 to 256"
    );
}
