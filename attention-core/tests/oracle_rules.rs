//! The oracle against what can be said about attention without computing it a second time.

mod support;

use attention_core::oracle::{self, Array4, Inputs, Mask4, Tensor4};
use attention_core::{AttentionSpec, CausalAlignment};
use support::Case;

const NONE: AttentionSpec = AttentionSpec {
    causal: None,
    scale: None,
    softcap: None,
};

#[track_caller]
fn assert_close(given: &[f64], expected: &[f64]) {
    assert_eq!(given.len(), expected.len());
    for (n, (given, expected)) in given.iter().zip(expected).enumerate() {
        let close = (given - expected).abs() <= 1e-12 * (1.0 + expected.abs());
        assert!(given == expected || close, "[{n}]: {given}, not {expected}");
    }
}

/// One query and one head over keys that give these scores with a scale of 1 and these values.
fn one_row(scores: &[f64], values: &[f64]) -> Inputs {
    let keys = scores.len();
    Inputs {
        query: Tensor4::new([1, 1, 1, 1], vec![1.0]),
        key: Tensor4::new([1, 1, keys, 1], scores.to_vec()),
        value: Tensor4::new([1, 1, keys, 1], values.to_vec()),
        mask: None,
        bias: None,
    }
}

/// The keys that each query of one head sees, as `true`.
fn seen(seq_q: usize, seq_kv: usize, causal: CausalAlignment) -> Vec<bool> {
    let mut case = Case::plain();
    (
        case.problem.batch,
        case.problem.heads,
        case.problem.kv_heads,
        case.problem.value_heads,
    ) = (1, 1, 1, 1);
    (case.problem.seq_q, case.problem.seq_kv) = (seq_q, seq_kv);
    case.spec = NONE.with_causal(causal);
    let probabilities = oracle::probabilities(&case.inputs(), &case.spec).unwrap();
    probabilities.data.iter().map(|&p| p > 0.0).collect()
}

/// Every head of this array `times` times in a row.
fn repeat_heads(array: &Tensor4, times: usize) -> Tensor4 {
    let [batch, heads, rows, width] = array.shape;
    let of_head = |head: &[f64]| head.repeat(times);
    Array4::new(
        [batch, heads * times, rows, width],
        array.data.chunks(rows * width).flat_map(of_head).collect(),
    )
}

#[test]
fn keys_are_weighed_by_the_exponential_of_their_score() {
    let inputs = one_row(&[1f64.ln(), 2f64.ln(), 5f64.ln()], &[8.0, 16.0, -8.0]);
    let output = oracle::forward(&inputs, &NONE).unwrap();
    let probabilities = oracle::probabilities(&inputs, &NONE).unwrap();
    assert_close(&probabilities.data, &[1.0 / 8.0, 2.0 / 8.0, 5.0 / 8.0]);
    assert_close(&output.out.data, &[1.0 + 4.0 - 5.0]);
    assert_close(&output.lse, &[8f64.ln()]);
}

#[test]
fn scores_are_scaled_by_the_root_of_the_head_dimension_unless_told_otherwise() {
    let mut inputs = one_row(&[0.0, 0.0], &[0.0, 1.0]);
    inputs.query = Tensor4::new([1, 1, 1, 4], vec![1.0; 4]);
    inputs.key = Tensor4::new([1, 1, 2, 4], vec![0., 0., 0., 0., 1., 2., 3., 4.]);
    let out = |spec| oracle::forward(&inputs, &spec).unwrap().out.data[0];
    let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
    assert_close(&[out(NONE)], &[sigmoid(5.0)]);
    assert_close(&[out(NONE.with_scale(-0.1))], &[sigmoid(-1.0)]);
}

#[test]
fn the_bias_is_added_after_the_softcap() {
    let mut inputs = one_row(&[100.0], &[1.0]);
    inputs.bias = Some(Tensor4::new([1, 1, 1, 1], vec![7.0]));
    let output = oracle::forward(&inputs, &NONE.with_softcap(2.0)).unwrap();
    assert_close(&output.lse, &[2.0 * 50f64.tanh() + 7.0]);
}

#[test]
fn huge_scores_do_not_overflow() {
    let output = oracle::forward(&one_row(&[1e300, 1e300], &[1.0, 3.0]), &NONE).unwrap();
    assert_close(&output.out.data, &[2.0]);
    assert_close(&output.lse, &[1e300]);
}

#[test]
fn a_row_biased_by_the_lowest_finite_number_attends_evenly() {
    let mut inputs = one_row(&[0.5, -0.5], &[1.0, 3.0]);
    inputs.bias = Some(Tensor4::new([1, 1, 1, 1], vec![f64::from(f32::MIN)]));
    let output = oracle::forward(&inputs, &NONE).unwrap();
    assert_close(&output.out.data, &[2.0]);
    let grad_out = Tensor4::new([1, 1, 1, 1], vec![1.0]);
    let gradients = oracle::backward(&inputs, &NONE, &grad_out, None).unwrap();
    assert_close(&gradients.value.data, &[0.5, 0.5]);
}

#[test]
fn top_left_lets_each_query_see_the_keys_up_to_its_own_position() {
    let (no, yes) = (false, true);
    assert_eq!(
        seen(2, 3, CausalAlignment::TopLeft),
        [yes, no, no, yes, yes, no]
    );
    assert_eq!(
        seen(3, 2, CausalAlignment::TopLeft),
        [yes, no, yes, yes, yes, yes]
    );
}

#[test]
fn bottom_right_lets_the_last_query_see_every_key() {
    let (no, yes) = (false, true);
    assert_eq!(
        seen(2, 3, CausalAlignment::BottomRight),
        [yes, yes, no, yes, yes, yes]
    );
    assert_eq!(
        seen(3, 2, CausalAlignment::BottomRight),
        [no, no, yes, no, yes, yes]
    );
}

#[test]
fn grouped_heads_equal_key_and_value_heads_that_were_repeated() {
    for (kv_heads, value_heads) in [(2, 2), (2, 1), (6, 3)] {
        grouped_heads_equal_repeated_ones(kv_heads, value_heads);
    }
}

fn grouped_heads_equal_repeated_ones(kv_heads: usize, value_heads: usize) {
    const HEADS: usize = 6;
    let mut case = Case::plain();
    case.problem.heads = HEADS;
    case.problem.kv_heads = kv_heads;
    case.problem.value_heads = value_heads;
    let grouped = case.inputs();
    let repeated = Inputs {
        key: repeat_heads(&grouped.key, HEADS / kv_heads),
        value: repeat_heads(&grouped.value, HEADS / value_heads),
        ..grouped.clone()
    };
    assert_eq!(
        oracle::forward(&grouped, &NONE).unwrap(),
        oracle::forward(&repeated, &NONE).unwrap()
    );

    let (grad_out, grad_lse) = case.upstream();
    let gradients = |inputs| oracle::backward(inputs, &NONE, &grad_out, Some(&grad_lse)).unwrap();
    let (grouped, repeated) = (gradients(&grouped), gradients(&repeated));
    assert_eq!(grouped.query, repeated.query);
    for (grouped, repeated) in [(grouped.key, repeated.key), (grouped.value, repeated.value)] {
        let head_len = grouped.shape[2] * grouped.shape[3];
        let times = repeated.shape[1] / grouped.shape[1];
        let summed = repeated.data.chunks(times * head_len).flat_map(|group| {
            (0..head_len).map(|n| group.iter().skip(n).step_by(head_len).sum::<f64>())
        });
        assert_close(&grouped.data, &summed.collect::<Vec<_>>());
    }
}

#[test]
fn a_mask_and_a_bias_of_minus_infinity_hide_the_same_keys() {
    let mut case = Case::plain();
    case.mask = Some([2, 1, 3, 4]);
    let masked = case.inputs();
    let mask = masked.mask.as_ref().unwrap();
    let minus_infinity = |&hidden: &bool| if hidden { f64::NEG_INFINITY } else { 0.0 };
    let biased = Inputs {
        bias: Some(Tensor4::new(
            mask.shape,
            mask.data.iter().map(minus_infinity).collect(),
        )),
        mask: None,
        ..masked.clone()
    };
    assert_eq!(
        oracle::forward(&masked, &NONE).unwrap(),
        oracle::forward(&biased, &NONE).unwrap()
    );

    let (grad_out, grad_lse) = case.upstream();
    let gradients = |inputs| oracle::backward(inputs, &NONE, &grad_out, Some(&grad_lse)).unwrap();
    let (by_mask, by_bias) = (gradients(&masked), gradients(&biased));
    assert_eq!(by_mask.query, by_bias.query);
    assert_eq!(by_mask.key, by_bias.key);
    assert_eq!(by_mask.value, by_bias.value);
    let mut grad_bias = by_bias.bias.unwrap().data.into_iter().zip(&mask.data);
    assert!(grad_bias.all(|(grad, &hidden)| !hidden || grad == 0.0));
}

#[test]
fn a_query_that_sees_no_key_gets_zeros_and_gives_no_gradient() {
    let hide = |bias_too: bool| {
        let mut inputs = one_row(&[1.0, 2.0], &[3.0, 4.0]);
        if bias_too {
            inputs.bias = Some(Tensor4::new([1, 1, 1, 1], vec![f64::NEG_INFINITY]));
        } else {
            inputs.mask = Some(Mask4::new([1, 1, 1, 1], vec![true]));
            inputs.bias = Some(Tensor4::zeros([1, 1, 1, 2]));
        }
        inputs
    };
    let grad_out = Tensor4::new([1, 1, 1, 1], vec![f64::NAN]);
    for inputs in [hide(false), hide(true)] {
        let output = oracle::forward(&inputs, &NONE).unwrap();
        assert_eq!(output.out.data, [0.0]);
        assert_eq!(output.lse, [f64::NEG_INFINITY]);
        let probabilities = oracle::probabilities(&inputs, &NONE).unwrap();
        assert_eq!(probabilities.data, [0.0, 0.0]);

        let gradients = oracle::backward(&inputs, &NONE, &grad_out, Some(&[f64::NAN])).unwrap();
        let Inputs {
            query,
            key,
            value,
            bias,
            ..
        } = &inputs;
        assert_eq!(gradients.query, Tensor4::zeros(query.shape));
        assert_eq!(gradients.key, Tensor4::zeros(key.shape));
        assert_eq!(gradients.value, Tensor4::zeros(value.shape));
        assert_eq!(
            gradients.bias,
            bias.as_ref().map(|b| Tensor4::zeros(b.shape))
        );
    }
}

#[test]
fn causal_queries_before_the_first_key_see_nothing() {
    let mut case = Case::plain();
    (case.problem.seq_q, case.problem.seq_kv) = (4, 1);
    let spec = NONE.with_causal(CausalAlignment::BottomRight);
    let output = oracle::forward(&case.inputs(), &spec).unwrap();
    for head in output.lse.chunks(4) {
        assert_eq!(head[..3], [f64::NEG_INFINITY; 3]);
        assert!(head[3].is_finite());
    }
}

#[test]
fn what_a_hidden_key_holds_touches_nothing() {
    for hidden_by_bias in [false, true] {
        let hide = |held: f64| {
            let mut inputs = one_row(&[0.3, held, -0.2], &[1.0, held, 2.0]);
            if hidden_by_bias {
                let bias = vec![0.0, f64::NEG_INFINITY, 0.0];
                inputs.bias = Some(Tensor4::new([1, 1, 1, 3], bias));
            } else {
                inputs.mask = Some(Mask4::new([1, 1, 1, 3], vec![false, true, false]));
            }
            inputs
        };
        let grad_out = Tensor4::new([1, 1, 1, 1], vec![1.5]);
        let run = |inputs: &Inputs| {
            (
                oracle::forward(inputs, &NONE).unwrap(),
                oracle::backward(inputs, &NONE, &grad_out, Some(&[0.5])).unwrap(),
            )
        };
        assert_eq!(run(&hide(f64::NAN)), run(&hide(0.0)));
    }
}

#[test]
fn no_keys_give_zeros_and_no_queries_give_nothing() {
    let mut case = Case::plain();
    case.bias = Some([2, 1, 1, 1]);
    (case.problem.seq_q, case.problem.seq_kv) = (3, 0);
    let output = oracle::forward(&case.inputs(), &NONE).unwrap();
    assert_eq!(output.out, Tensor4::zeros([2, 2, 3, 2]));
    assert_eq!(output.lse, [f64::NEG_INFINITY; 12]);

    (case.problem.seq_q, case.problem.seq_kv) = (0, 4);
    let (grad_out, grad_lse) = case.upstream();
    let inputs = case.inputs();
    assert!(oracle::forward(&inputs, &NONE).unwrap().lse.is_empty());
    let gradients = oracle::backward(&inputs, &NONE, &grad_out, Some(&grad_lse)).unwrap();
    assert_eq!(gradients.key, Tensor4::zeros([2, 2, 4, 3]));
    assert_eq!(gradients.bias, Some(Tensor4::zeros([2, 1, 1, 1])));
}

#[test]
fn every_query_that_sees_a_key_spreads_a_probability_of_one() {
    let mut case = Case::plain();
    case.mask = Some([1, 2, 3, 4]);
    case.spec = NONE.with_causal(CausalAlignment::TopLeft);
    let inputs = case.inputs();
    let output = oracle::forward(&inputs, &case.spec).unwrap();
    let probabilities = oracle::probabilities(&inputs, &case.spec).unwrap();
    assert_eq!(probabilities.shape, [2, 2, 3, 4]);
    for (row, lse) in probabilities.data.chunks(4).zip(output.lse) {
        let expected = if lse.is_finite() { 1.0 } else { 0.0 };
        assert_close(&[row.iter().sum()], &[expected]);
    }
}
