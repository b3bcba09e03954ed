//! Rows without keys, heads that share keys, and what is repeatable.

use attention_core::{AttentionSpec, CausalAlignment};
use attention_models::ops::{AttentionOptions, attention, attention_with_lse};
use burn::tensor::{Bool, Tensor};

use crate::support::{Case, Inputs, Loss, devices, floats, fused};

#[test]
fn a_query_without_keys_gets_zero_and_passes_no_gradient_on() {
    for device in devices() {
        // Top-left would show a key to every query; bottom-right hides all keys from the first 3.
        let case = Case {
            seq_q: 5,
            seq_kv: 2,
            spec: AttentionSpec::default().with_causal(CausalAlignment::BottomRight),
            bias: Some([1, 1, 5, 2]),
            ..Case::new([1, 1, 5, 8])
        };
        let run = fused(&Inputs::new(&case, &device.autodiff()), Loss::Both);
        assert!(run.out[..3 * 8].iter().all(|&value| value == 0.0));
        assert!(run.lse[..3].iter().all(|&lse| lse == f64::NEG_INFINITY));
        assert!(run.query[..3 * 8].iter().all(|&gradient| gradient == 0.0));
        let bias = run.bias.expect("the bias is tracked");
        assert!(bias[..3 * 2].iter().all(|&gradient| gradient == 0.0));
        assert!(run.out[3 * 8..].iter().all(|&value| value != 0.0));
    }
}

#[test]
fn attention_to_no_keys_at_all_is_zero() {
    for device in devices() {
        let query = Tensor::<4>::ones([2, 3, 4, 8], &device);
        let key = Tensor::<4>::ones([2, 3, 0, 8], &device);
        let (out, lse) = attention_with_lse(query, key.clone(), key, AttentionOptions::default());
        assert_eq!(floats(out), vec![0.0; 2 * 3 * 4 * 8]);
        assert_eq!(floats(lse), vec![f64::NEG_INFINITY; 2 * 3 * 4]);
    }
}

#[test]
fn no_queries_give_an_empty_output() {
    for device in devices() {
        let query = Tensor::<4>::ones([2, 3, 0, 8], &device);
        let key = Tensor::<4>::ones([2, 3, 4, 8], &device);
        let (out, lse) = attention_with_lse(query, key.clone(), key, AttentionOptions::default());
        assert_eq!((out.dims(), lse.dims()), ([2, 3, 0, 8], [2, 3, 0]));
    }
}

#[test]
fn a_mask_that_hides_everything_equals_no_keys() {
    for device in devices() {
        let inputs = Inputs::new(&Case::new([1, 2, 6, 8]), &device);
        let hidden = Tensor::<4, Bool>::full([1, 1, 1, 6], true, &device);
        let options = AttentionOptions::default().with_mask(hidden);
        let out = attention(inputs.query, inputs.key, inputs.value, options);
        assert!(floats(out).iter().all(|&value| value == 0.0));
    }
}

#[test]
fn grouped_heads_equal_repeated_heads() {
    for device in devices() {
        let case = Case {
            kv_heads: 2,
            ..Case::new([2, 6, 9, 16])
        };
        let Inputs {
            query, key, value, ..
        } = Inputs::new(&case, &device);
        let repeated = |tensor: Tensor<4>| -> Tensor<4> {
            tensor
                .reshape([2, 2, 1, 9 * 16])
                .expand([2, 2, 3, 9 * 16])
                .reshape([2, 6, 9, 16])
        };
        let options = AttentionOptions::default();
        let grouped = attention(query.clone(), key.clone(), value.clone(), options.clone());
        let expanded = attention(query, repeated(key), repeated(value), options);
        assert_eq!(floats(grouped), floats(expanded));
    }
}

#[test]
fn the_same_inputs_give_the_same_bits() {
    for device in devices() {
        let case = Case {
            bias: Some([1, 4, 33, 33]),
            kv_heads: 2,
            ..Case::new([2, 4, 33, 24])
        };
        let inputs = Inputs::new(&case, &device.autodiff());
        let (first, second) = (fused(&inputs, Loss::Both), fused(&inputs, Loss::Both));
        assert_eq!(format!("{first:?}"), format!("{second:?}"));
    }
}

#[test]
fn an_untracked_input_gets_no_gradient() {
    for device in devices() {
        let Inputs {
            query, key, value, ..
        } = Inputs::new(&Case::new([1, 2, 5, 8]), &device.autodiff());
        let key = key.set_require_grad(false);
        let out = attention(
            query.clone(),
            key.clone(),
            value,
            AttentionOptions::default(),
        );
        let gradients = out.sum().backward();
        assert!(query.grad(&gradients).is_some());
        assert!(key.grad(&gradients).is_none());
    }
}

#[test]
fn a_bias_of_minus_infinity_hides_like_a_mask() {
    for device in devices() {
        let case = Case {
            mask: Some([1, 2, 7, 7]),
            ..Case::new([1, 2, 7, 8])
        };
        let Inputs {
            query,
            key,
            value,
            options,
            ..
        } = Inputs::new(&case, &device);
        let mask = options.mask.clone().expect("the case has a mask");
        let bias = Tensor::<4>::zeros([1, 2, 7, 7], &device).mask_fill(mask, f32::NEG_INFINITY);
        let masked = attention(query.clone(), key.clone(), value.clone(), options);
        let biased = attention(
            query,
            key,
            value,
            AttentionOptions::default().with_bias(bias),
        );
        assert_eq!(floats(masked), floats(biased));
    }
}
