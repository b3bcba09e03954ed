//! Bad input: the error names the argument, what was given and what is accepted.

mod support;

use attention_core::oracle::{self, Inputs, Tensor4};
use attention_core::{AttentionError, AttentionShapes, AttentionSpec};
use support::Case;

const GOOD: AttentionShapes = AttentionShapes {
    query: [2, 8, 100, 64],
    key: [2, 4, 77, 64],
    value: [2, 4, 77, 32],
    mask: None,
    bias: None,
};

#[track_caller]
fn assert_shape_refused(
    shapes: AttentionShapes,
    argument: &'static str,
    given: [usize; 4],
    accepted: &str,
) {
    assert_eq!(
        shapes.validate(),
        Err(AttentionError::Shape {
            argument,
            given: given.to_vec(),
            accepted: accepted.into(),
        })
    );
}

#[track_caller]
fn assert_value_refused<T: std::fmt::Debug>(
    result: Result<T, AttentionError>,
    argument: &'static str,
    given: &str,
    accepted: &str,
) {
    let expected = AttentionError::Value {
        argument,
        given: given.into(),
        accepted: accepted.into(),
    };
    assert_eq!(result.unwrap_err(), expected);
}

#[test]
fn shapes_that_fit_are_accepted_up_to_the_largest_dimension_and_down_to_no_sequence() {
    assert!(GOOD.validate().is_ok());
    let largest = AttentionShapes {
        query: [1, 1, 0, 256],
        key: [1, 1, 0, 256],
        value: [1, 1, 0, 256],
        mask: Some([1, 1, 0, 0]),
        bias: Some([1, 1, 1, 1]),
    };
    assert!(largest.validate().is_ok());
}

#[test]
fn an_empty_batch_and_no_heads_are_refused() {
    for query in [[0, 8, 100, 64], [2, 0, 100, 64]] {
        let accepted = "at least one batch element and one head";
        assert_shape_refused(AttentionShapes { query, ..GOOD }, "query", query, accepted);
    }
}

#[test]
fn a_head_dimension_of_0_or_257_is_refused() {
    for query in [[2, 8, 100, 0], [2, 8, 100, 257]] {
        let accepted = "a head dimension from 1 to 256";
        assert_shape_refused(AttentionShapes { query, ..GOOD }, "query", query, accepted);
    }
}

#[test]
fn a_key_of_another_batch_or_head_dimension_than_the_query_is_refused() {
    for key in [[3, 4, 77, 64], [2, 4, 77, 63]] {
        let accepted = "[2, kv_heads, seq_kv, 64] for the query's shape [2, 8, 100, 64]";
        assert_shape_refused(AttentionShapes { key, ..GOOD }, "key", key, accepted);
    }
}

#[test]
fn key_heads_that_do_not_divide_the_query_heads_are_refused() {
    for key in [[2, 0, 77, 64], [2, 3, 77, 64], [2, 16, 77, 64]] {
        let accepted = "a number of heads that divides the query's 8";
        assert_shape_refused(AttentionShapes { key, ..GOOD }, "key", key, accepted);
    }
}

#[test]
fn a_value_of_another_batch_or_length_than_the_key_is_refused() {
    for value in [[1, 4, 77, 32], [2, 4, 78, 32]] {
        let accepted = "[2, value_heads, 77, value_dim] for the key's shape [2, 4, 77, 64]";
        assert_shape_refused(AttentionShapes { value, ..GOOD }, "value", value, accepted);
    }
}

#[test]
fn value_heads_that_do_not_divide_the_key_heads_are_refused() {
    for value in [[2, 0, 77, 32], [2, 3, 77, 32], [2, 8, 77, 32]] {
        let accepted = "a number of heads that divides the key's 4";
        assert_shape_refused(AttentionShapes { value, ..GOOD }, "value", value, accepted);
    }
}

#[test]
fn a_value_dimension_of_0_or_257_is_refused() {
    for value in [[2, 4, 77, 0], [2, 4, 77, 257]] {
        let accepted = "a value dimension from 1 to 256";
        assert_shape_refused(AttentionShapes { value, ..GOOD }, "value", value, accepted);
    }
}

#[test]
fn a_mask_or_bias_that_does_not_broadcast_to_the_scores_is_refused() {
    let accepted = "[2 or 1, 8 or 1, 100 or 1, 77 or 1] (batch, heads, seq_q, seq_kv)";
    for wrong in [
        [3, 1, 1, 77],
        [2, 4, 1, 77],
        [1, 1, 99, 77],
        [1, 1, 1, 0],
        [1, 1, 77, 100],
    ] {
        let mask = AttentionShapes {
            mask: Some(wrong),
            ..GOOD
        };
        assert_shape_refused(mask, "mask", wrong, accepted);
        let bias = AttentionShapes {
            bias: Some(wrong),
            ..GOOD
        };
        assert_shape_refused(bias, "bias", wrong, accepted);
    }
}

#[test]
fn a_scale_that_is_not_finite_in_f32_is_refused() {
    for (scale, given) in [
        (f64::NAN, "NaN"),
        (f64::INFINITY, "inf"),
        (f64::NEG_INFINITY, "-inf"),
        (
            f64::from(f32::MAX) * 2.0,
            "680564693277057700000000000000000000000",
        ),
    ] {
        let result = AttentionSpec::default().with_scale(scale).validate();
        assert_value_refused(result, "scale", given, "a number that is finite in f32");
    }
}

#[test]
fn a_softcap_that_is_not_finite_and_positive_in_f32_is_refused() {
    for (softcap, given) in [
        (f64::NAN, "NaN"),
        (f64::INFINITY, "inf"),
        (0.0, "0"),
        (-1.0, "-1"),
        (2f64.powi(-200), &2f64.powi(-200).to_string()),
    ] {
        let result = AttentionSpec::default().with_softcap(softcap).validate();
        let accepted = "a number that is finite and above 0 in f32";
        assert_value_refused(result, "softcap", given, accepted);
    }
}

#[test]
fn scales_of_any_sign_and_positive_softcaps_are_accepted() {
    for scale in [0.0, -2.0, 1e30] {
        assert!(
            AttentionSpec::default()
                .with_scale(scale)
                .validate()
                .is_ok()
        );
    }
    for softcap in [1e-30, 50.0] {
        let spec = AttentionSpec::default().with_softcap(softcap);
        assert!(spec.validate().is_ok());
    }
}

#[test]
fn the_message_names_the_argument_what_was_given_and_what_is_accepted() {
    let key = [2, 3, 77, 64];
    let error = AttentionShapes { key, ..GOOD }.validate().unwrap_err();
    assert_eq!(
        error.to_string(),
        "`key` has shape [2, 3, 77, 64]; accepted: a number of heads that divides the query's 8"
    );
    let error = AttentionSpec::default().with_scale(f64::NAN).validate();
    assert_eq!(
        error.unwrap_err().to_string(),
        "`scale` is NaN; accepted: a number that is finite in f32"
    );
}

#[test]
fn every_way_into_the_oracle_checks_shapes_and_options() {
    let case = Case::plain();
    let (good, spec) = (case.inputs(), case.spec);
    let (grad_out, _) = case.upstream();
    let refused_by_all = |inputs: &Inputs, spec: &AttentionSpec| {
        let error = oracle::forward(inputs, spec).unwrap_err();
        assert_eq!(oracle::probabilities(inputs, spec).unwrap_err(), error);
        assert_eq!(
            oracle::backward(inputs, spec, &grad_out, None).unwrap_err(),
            error
        );
        error
    };

    let mut wrong = good.clone();
    wrong.key.shape[3] += 1;
    let error = refused_by_all(&wrong, &spec);
    assert!(matches!(
        error,
        AttentionError::Shape {
            argument: "key",
            ..
        }
    ));

    let error = refused_by_all(&good, &spec.with_softcap(-1.0));
    assert!(matches!(
        error,
        AttentionError::Value {
            argument: "softcap",
            ..
        }
    ));
}

#[test]
fn the_oracle_refuses_data_that_does_not_fill_its_shape() {
    let mut case = Case::plain();
    case.mask = Some([1, 1, 1, 4]);
    case.bias = Some([1, 1, 3, 1]);
    let refused = |argument, given, shape, cut: fn(&mut Inputs)| {
        let mut inputs = case.inputs();
        cut(&mut inputs);
        let accepted = format!("as many elements as its shape {shape} has");
        let result = oracle::forward(&inputs, &case.spec);
        assert_value_refused(result, argument, given, &accepted);
    };
    refused("query", "35 elements", "[2, 2, 3, 3]", |i| {
        i.query.data.truncate(35)
    });
    refused("key", "47 elements", "[2, 2, 4, 3]", |i| {
        i.key.data.truncate(47)
    });
    refused("value", "0 elements", "[2, 2, 4, 2]", |i| {
        i.value.data.clear()
    });
    refused("mask", "3 elements", "[1, 1, 1, 4]", |i| {
        i.mask.as_mut().unwrap().data.truncate(3)
    });
    refused("bias", "4 elements", "[1, 1, 3, 1]", |i| {
        i.bias.as_mut().unwrap().data.push(0.0)
    });
}

#[test]
fn the_oracle_refuses_upstream_gradients_of_another_shape() {
    let case = Case::plain();
    let (grad_out, grad_lse) = case.upstream();
    let backward = |grad_out: &Tensor4, grad_lse: Option<&[f64]>| {
        oracle::backward(&case.inputs(), &case.spec, grad_out, grad_lse)
    };
    assert_eq!(
        backward(&Tensor4::zeros([2, 2, 3, 3]), None).unwrap_err(),
        AttentionError::Shape {
            argument: "grad_out",
            given: vec![2, 2, 3, 3],
            accepted: "[2, 2, 3, 2], the output's shape".into(),
        }
    );
    assert_value_refused(
        backward(&Tensor4::new(grad_out.shape, vec![0.0; 23]), None),
        "grad_out",
        "23 elements",
        "as many elements as its shape [2, 2, 3, 2] has",
    );
    assert_eq!(
        backward(&grad_out, Some(&grad_lse[1..])).unwrap_err(),
        AttentionError::Shape {
            argument: "grad_lse",
            given: vec![11],
            accepted: "as many elements as [2, 2, 3] has".into(),
        }
    );
}
