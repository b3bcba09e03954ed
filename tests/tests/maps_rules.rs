//! What attention maps promise beyond agreement with the oracle, and what they refuse.

use attention_core::{AttentionSpec, CausalAlignment, DType};
use attention_kernels::catalog::Entry;
use attention_models::{
    cli::verify::case::Case,
    ops::{
        AttentionOptions, attention_entropy, attention_rows, attention_with_lse,
        gradient_times_attention, merge, received_attention, top_keys, try_attention_rows,
        try_gradient_times_attention, try_pooled_attention, try_top_keys, with_sinks,
    },
};
use burn::tensor::{Distribution, Tensor, TensorData};

use crate::{
    maps::{assert_within_bounds, everything, ours, read},
    support::devices,
};

#[test]
fn queries_that_see_no_key_give_maps_of_0() {
    // Bottom right with more queries than keys: the first 22 see none.
    let spec = AttentionSpec::default().with_causal(CausalAlignment::BottomRight);
    let entry = Entry::new("no key", [1, 2, 2, 41, 19, 16, 16]).with_spec(spec);
    let case = Case::of(&entry);
    assert_within_bounds(&case, DType::F32);
    for kind in devices() {
        let outputs = ours(
            &case,
            DType::F32,
            &kind.open().expect("the device was found"),
        );
        let first = |name: &str, length: usize| {
            let (_, values) = outputs
                .iter()
                .find(|(other, _)| *other == name)
                .expect(name);
            values[..length].to_vec()
        };
        assert_eq!(first("all rows", 22 * 19), [0.0; 22 * 19], "{kind}");
        assert_eq!(first("entropy", 22), [0.0; 22], "{kind}");
        assert_eq!(first("top probabilities", 22 * 6), [0.0; 22 * 6], "{kind}");
    }
}

#[test]
fn equal_keys_are_listed_by_position_and_hidden_ones_last() {
    for kind in devices() {
        let device = kind.open().expect("the device was found");
        let x = Tensor::<4>::zeros([1, 1, 7, 8], &device);
        let options = AttentionOptions::default().with_causal(CausalAlignment::TopLeft);
        let (_, lse) = attention_with_lse(x.clone(), x.clone(), x.clone(), options.clone());
        let (_, keys) = top_keys(x.clone(), x, lse, 5, options);
        let keys: Vec<i64> = keys.into_data().iter::<i64>().collect();
        assert_eq!(keys, [0, 1, 2, 3, 4].repeat(7), "{kind}");
    }
}

#[test]
fn a_list_of_every_key_is_the_sorted_row() {
    for kind in devices() {
        let device = kind.open().expect("the device was found");
        let query = Tensor::<4>::ones([1, 1, 1, 1], &device);
        let scores: Vec<f32> = (0..97).map(|n| (n * 37 % 97) as f32 / 10.0).collect();
        let key = Tensor::from_data(TensorData::new(scores.clone(), [1, 1, 97, 1]), &device);
        let options = AttentionOptions::default();
        let (_, lse) = attention_with_lse(query.clone(), key.clone(), key.clone(), options.clone());
        let (_, keys) = top_keys(query, key, lse, 97, options);
        let keys = keys.into_data();
        let listed = keys.iter::<i64>().map(|key| scores[key as usize]);
        let mut sorted = scores.clone();
        sorted.sort_by(|a, b| b.total_cmp(a));
        assert_eq!(listed.collect::<Vec<_>>(), sorted, "{kind}");
    }
}

#[test]
fn maps_keep_the_same_bits() {
    let case = everything().rounded_to(DType::F32);
    for kind in devices() {
        let device = kind.open().expect("the device was found");
        let first = ours(&case, DType::F32, &device);
        for _ in 0..5 {
            assert_eq!(ours(&case, DType::F32, &device), first, "{kind}");
        }
    }
}

#[test]
fn maps_of_views_are_those_of_the_tensors() {
    for kind in devices() {
        let device = kind.open().expect("the device was found");
        let random =
            |shape: [usize; 4]| Tensor::<4>::random(shape, Distribution::Normal(0.0, 1.0), &device);
        let (query, key) = (random([2, 19, 3, 16]), random([2, 23, 3, 16]));
        let maps = |query: Tensor<4>, key: Tensor<4>| {
            let options = AttentionOptions::default();
            let (_, lse) =
                attention_with_lse(query.clone(), key.clone(), key.clone(), options.clone());
            let rows = attention_rows(
                query.clone(),
                key.clone(),
                lse.clone(),
                &[3, 1],
                options.clone(),
            );
            let entropy =
                attention_entropy(query.clone(), key.clone(), lse.clone(), options.clone());
            let (top, _) = top_keys(query.clone(), key.clone(), lse.clone(), 3, options.clone());
            let gradient = gradient_times_attention(
                query.clone(),
                key.clone(),
                key,
                lse,
                query,
                &[2],
                options,
            );
            [read(rows), read(entropy), read(top), read(gradient)]
        };
        let view = |tensor: &Tensor<4>| tensor.clone().swap_dims(1, 2);
        let copy = |tensor: &Tensor<4>| {
            let view = view(tensor);
            Tensor::from_data(view.into_data(), &device)
        };
        assert_eq!(
            maps(view(&query), view(&key)),
            maps(copy(&query), copy(&key)),
            "{kind}"
        );
    }
}

#[test]
fn without_queries_nothing_is_received_and_without_keys_nothing_is_spread() {
    for kind in devices() {
        let device = kind.open().expect("the device was found");
        let some = Tensor::<4>::ones([1, 2, 3, 8], &device);
        let none = Tensor::<4>::empty([1, 2, 0, 8], &device);
        let options = AttentionOptions::default;
        let lse = |query: &Tensor<4>, key: &Tensor<4>| {
            attention_with_lse(query.clone(), key.clone(), key.clone(), options()).1
        };
        let received = received_attention(none.clone(), some.clone(), lse(&none, &some), options());
        assert_eq!(read(received), [0.0; 6], "{kind}");
        let entropy = attention_entropy(some.clone(), none.clone(), lse(&some, &none), options());
        assert_eq!(read(entropy), [0.0; 6], "{kind}");
        let rows = attention_rows(
            some.clone(),
            none.clone(),
            lse(&some, &none),
            &[1],
            options(),
        );
        assert_eq!(rows.dims(), [1, 2, 1, 0], "{kind}");
        let rows = attention_rows(
            some.clone(),
            some.clone(),
            lse(&some, &some),
            &[],
            options(),
        );
        assert_eq!(rows.dims(), [1, 2, 0, 3], "{kind}");
    }
}

#[test]
fn maps_of_tracked_tensors_are_untracked() {
    for kind in devices() {
        let device = kind.open().expect("the device was found").autodiff();
        let x = Tensor::<4>::ones([1, 1, 4, 8], &device).require_grad();
        let options = AttentionOptions::default();
        let (out, lse) = attention_with_lse(x.clone(), x.clone(), x.clone(), options.clone());
        let entropy = attention_entropy(x.clone(), x.clone(), lse.clone(), options.clone());
        assert!(!entropy.is_autodiff(), "{kind}");
        // What they stand beside still passes its gradient on.
        let gradients = (out.sum() + lse.sum()).backward();
        assert!(x.grad(&gradients).is_some(), "{kind}");
        let (_, lse) = attention_with_lse(x.clone(), x.clone(), x.clone(), options.clone());
        let received = received_attention(x.clone(), x, lse, options);
        assert!((read(received)[0] - 1.0).abs() < 1e-6, "{kind}");
    }
}

#[test]
fn with_the_log_sum_exp_of_a_sink_the_rest_is_what_the_sink_took() {
    for kind in devices() {
        let device = kind.open().expect("the device was found");
        let x = Tensor::<4>::zeros([1, 1, 1, 4], &device);
        let options = AttentionOptions::default();
        let attended = attention_with_lse(x.clone(), x.clone(), x.clone(), options.clone());
        let (_, lse) = with_sinks(attended.clone(), Tensor::zeros([1], &device));
        let share = attention_rows(x.clone(), x.clone(), lse, &[0], options.clone());
        assert!((read(share)[0] - 0.5).abs() < 1e-6, "{kind}");
        let (_, lse) = merge(attended.clone(), attended);
        let share = attention_rows(x.clone(), x, lse, &[0], options);
        assert!((read(share)[0] - 0.5).abs() < 1e-6, "{kind}");
    }
}

/// What every device says of a bad request, the same for all.
fn refusal<T>(
    ask: impl Fn(Tensor<4>, Tensor<3>) -> Result<T, attention_core::AttentionError>,
) -> String {
    let mut messages: Vec<_> = devices()
        .into_iter()
        .map(|kind| {
            let device = kind.open().expect("the device was found");
            let x = Tensor::<4>::zeros([1, 2, 5, 8], &device);
            match ask(x, Tensor::zeros([1, 2, 5], &device)) {
                Ok(_) => panic!("{kind} accepted it"),
                Err(error) => error.to_string(),
            }
        })
        .collect();
    messages.dedup();
    assert_eq!(messages.len(), 1, "{messages:?}");
    messages.remove(0)
}

#[test]
fn rows_beyond_the_last_query_are_refused() {
    let message = refusal(|x, lse| {
        try_attention_rows(x.clone(), x, lse, &[4, 5], AttentionOptions::default())
    });
    assert_eq!(
        message,
        "`rows` is 5; accepted: positions below 5, the number of queries"
    );
}

#[test]
fn no_key_and_more_keys_than_there_are_are_refused() {
    for (k, accepted) in [(0, "`k` is 0"), (6, "`k` is 6")] {
        let message =
            refusal(|x, lse| try_top_keys(x.clone(), x, lse, k, AttentionOptions::default()));
        assert_eq!(
            message,
            format!("{accepted}; accepted: 1 to 5, the number of keys")
        );
    }
}

#[test]
fn grids_without_cells_or_with_empty_ones_are_refused() {
    for grid in [[0, 1], [1, 6]] {
        let message = refusal(|x, lse| {
            try_pooled_attention(x.clone(), x, lse, grid, AttentionOptions::default())
        });
        let accepted = "[1, 1] to [5, 5], the numbers of queries and keys";
        assert_eq!(message, format!("`grid` is {grid:?}; accepted: {accepted}"));
    }
}

#[test]
fn a_log_sum_exp_of_other_rows_is_refused() {
    let message = refusal(|x, lse| {
        let lse = lse.slice_dim(2, 0..4);
        try_attention_rows(x.clone(), x, lse, &[0], AttentionOptions::default())
    });
    assert_eq!(message, "`lse` has shape [1, 2, 4]; accepted: [1, 2, 5]");
}

#[test]
fn a_gradient_of_another_shape_than_the_output_is_refused() {
    let message = refusal(|x, lse| {
        let grad_out = x.clone().slice_dim(3, 0..7);
        let options = AttentionOptions::default();
        try_gradient_times_attention(x.clone(), x.clone(), x, lse, grad_out, &[0], options)
    });
    assert_eq!(
        message,
        "`grad_out` has shape [1, 2, 5, 7]; accepted: [1, 2, 5, 8]"
    );
}
