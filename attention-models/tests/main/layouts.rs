//! Inputs of any legal layout.

use attention_models::ops::{AttentionOptions, attention, try_attention};
use burn::tensor::{Tensor, s};

use crate::support::{Case, Inputs, Loss, devices, floats, fused, random};

#[test]
fn a_view_of_swapped_dimensions_equals_the_contiguous_tensor() {
    for device in devices() {
        let inputs = Inputs::new(&Case::new([2, 3, 11, 16]), &device.clone().autodiff());
        // The same values, lying as [batch, seq, heads, dim].
        let swapped = |tensor: &Tensor<4>| {
            let lying = tensor.clone().detach().swap_dims(1, 2).into_data();
            Tensor::<4>::from_data(lying, &device.clone().autodiff())
                .swap_dims(1, 2)
                .require_grad()
        };
        let views = Inputs {
            query: swapped(&inputs.query),
            key: swapped(&inputs.key),
            value: swapped(&inputs.value),
            ..inputs.clone()
        };
        let (views, contiguous) = (fused(&views, Loss::Both), fused(&inputs, Loss::Both));
        assert_eq!(format!("{views:?}"), format!("{contiguous:?}"));
    }
}

#[test]
fn parts_of_a_packed_projection_equal_separate_tensors() {
    for device in devices() {
        let (batch, seq, heads, dim) = (2, 9, 4, 8);
        let packed = Tensor::<4>::from_data(random([batch, seq, 3, heads * dim], 11), &device);
        let part = |index: usize| -> Tensor<4> {
            packed
                .clone()
                .slice(s![.., .., index..index + 1, ..])
                .reshape([batch, seq, heads, dim])
                .swap_dims(1, 2)
        };
        let apart = |tensor: Tensor<4>| Tensor::<4>::from_data(tensor.into_data(), &device);
        let options = AttentionOptions::default();
        let views = attention(part(0), part(1), part(2), options.clone());
        let separate = attention(apart(part(0)), apart(part(1)), apart(part(2)), options);
        assert_eq!(floats(views), floats(separate));
    }
}

#[test]
fn slices_and_flips_equal_their_copies() {
    for device in devices() {
        let inputs = Inputs::new(&Case::new([3, 4, 12, 16]), &device);
        let copy = |tensor: Tensor<4>| Tensor::<4>::from_data(tensor.into_data(), &device);
        let view = |tensor: Tensor<4>| tensor.slice(s![1..3, 1..3, 2..11, 3..13]).flip([2]);
        let options = AttentionOptions::default();
        let (query, key, value) = (view(inputs.query), view(inputs.key), view(inputs.value));
        let views = attention(query.clone(), key.clone(), value.clone(), options.clone());
        let copies = attention(copy(query), copy(key), copy(value), options);
        assert_eq!(floats(views), floats(copies));
    }
}

#[test]
fn expanded_masks_and_biases_equal_their_copies() {
    for device in devices() {
        let case = Case {
            mask: Some([2, 1, 1, 6]),
            bias: Some([1, 3, 6, 6]),
            ..Case::new([2, 3, 6, 8])
        };
        let Inputs {
            query,
            key,
            value,
            options,
            ..
        } = Inputs::new(&case, &device);
        let shape = [2, 3, 6, 6];
        let expanded = AttentionOptions {
            mask: options.mask.clone().map(|mask| mask.expand(shape)),
            bias: options.bias.clone().map(|bias| bias.expand(shape)),
            ..options.clone()
        };
        let broadcast = attention(query.clone(), key.clone(), value.clone(), options);
        let expanded = attention(query, key, value, expanded);
        assert_eq!(floats(broadcast), floats(expanded));
    }
}

#[test]
fn one_tensor_serves_as_query_key_and_value() {
    for device in devices() {
        let tensor =
            Tensor::<4>::from_data(random([1, 2, 8, 16], 3), &device.autodiff()).require_grad();
        let out = try_attention(
            tensor.clone(),
            tensor.clone(),
            tensor.clone(),
            AttentionOptions::default(),
        )
        .expect("a tensor may attend to itself");
        let gradients = out.sum().backward();
        let gradient = tensor.grad(&gradients).expect("the tensor is tracked");
        assert!(floats(gradient).iter().all(|value| value.is_finite()));
    }
}
