//! Combination by log-sum-exp, forward and backward, against the oracle over all keys.

use attention_core::{AttentionSpec, CausalAlignment, DType, oracle::Tensor4};
use attention_kernels::catalog::Entry;
use attention_models::{
    cli::verify::{
        case::{Case, Outputs},
        upload,
    },
    ops::{AttentionOptions, attention_with_lse, merge, with_sinks},
};
use burn::tensor::{Device, Tensor};

use crate::support::{out_of_bounds, outputs};

fn read<const D: usize>(tensor: Tensor<D>) -> Vec<f64> {
    tensor.into_data().iter::<f64>().collect()
}

fn failures(case: &Case, ours: impl Fn(&Device) -> Outputs) -> Vec<String> {
    let expected = case.expected().expect("the oracle accepts the case");
    let unfused = case.unfused(DType::F32, &Device::flex()).expect("it fits");
    out_of_bounds(&case.name, DType::F32, &expected, &unfused, |device| {
        ours(&device.clone().autodiff())
    })
}

#[test]
fn split_keys_merge_to_the_attention_over_all_of_them() {
    // Causal: the first queries see no key of the second part.
    let spec = AttentionSpec::default().with_causal(CausalAlignment::BottomRight);
    let case = Case::of(&Entry::new("split", [2, 4, 2, 33, 53, 32, 16]).with_spec(spec));
    let case = case.rounded_to(DType::F32);
    let failures = failures(&case, |device| {
        outputs(&case, DType::F32, device, &[], |[query, key, value]| {
            let part = |tensor: &Tensor<4>, keys: std::ops::Range<usize>| {
                tensor.clone().slice_dim(2, keys)
            };
            let attend = |keys: std::ops::Range<usize>| {
                // Query `i` sees the keys up to `i + 20`: of those from `start` on, up to
                // `i + 20 - start`.
                let bias: Vec<f64> = (0..33 * keys.len())
                    .map(|n| (n / keys.len(), keys.start + n % keys.len()))
                    .map(|(i, j)| if j > i + 20 { f64::NEG_INFINITY } else { 0.0 })
                    .collect();
                let bias = Tensor4::new([1, 1, 33, keys.len()], bias);
                let options =
                    AttentionOptions::default().with_bias(upload(&bias, DType::F32, device));
                let (key, value) = (part(&key, keys.clone()), part(&value, keys));
                attention_with_lse(query.clone(), key, value, options)
            };
            merge(merge(attend(0..17), attend(17..40)), attend(40..53))
        })
    });
    assert!(failures.is_empty(), "\n{}", failures.join("\n"));
}

#[test]
fn a_sink_is_a_key_that_gives_no_value() {
    const KEYS: usize = 20;
    // The oracle sees a last key of zeros whose score is the sink.
    let mut case = Case::of(&Entry::new("sinks", [2, 4, 4, 9, KEYS + 1, 16, 8]));
    let sinks = [0.5, -1.0, 2.0, 0.0];
    for tensor in [&mut case.inputs.key, &mut case.inputs.value] {
        let dim = tensor.shape[3];
        for head in tensor.data.chunks_mut((KEYS + 1) * dim) {
            head[KEYS * dim..].fill(0.0);
        }
    }
    let mut bias = Tensor4::zeros([1, 4, 1, KEYS + 1]);
    for (head, sink) in sinks.iter().enumerate() {
        bias.data[head * (KEYS + 1) + KEYS] = *sink;
    }
    case.inputs.bias = Some(bias);
    let case = case.rounded_to(DType::F32);
    let failures = failures(&case, |device| {
        let tracked = |tensor: &Tensor4| upload(tensor, DType::F32, device).require_grad();
        let [query, key, value] =
            [&case.inputs.query, &case.inputs.key, &case.inputs.value].map(tracked);
        let bias = case.inputs.bias.as_ref().map(tracked).expect("it was set");
        let seen = |tensor: &Tensor<4>| tensor.clone().slice_dim(2, 0..KEYS);
        let options = AttentionOptions::default().with_bias(bias.clone().slice_dim(3, 0..KEYS));
        let attended = attention_with_lse(query.clone(), seen(&key), seen(&value), options);
        let sinks = bias.clone().slice_dim(3, KEYS..KEYS + 1).reshape([4]);
        let (out, lse) = with_sinks(attended, sinks);
        let grad_out = upload(&case.grad_out, DType::F32, device);
        let gradients = (out.clone() * grad_out).sum().backward();
        let gradient = |tensor: &Tensor<4>| read(tensor.grad(&gradients).expect("tracked"));
        // The oracle's last key takes a gradient through its score and its value; ours has none.
        let of_keys = |tensor: &Tensor<4>, expected: &[f64], dim: usize| {
            let mut gradient = gradient(tensor);
            for row in 0..gradient.len() / dim {
                if row % (KEYS + 1) == KEYS {
                    let row = row * dim..(row + 1) * dim;
                    gradient[row.clone()].copy_from_slice(&expected[row]);
                }
            }
            gradient
        };
        let expected = case.expected().expect("the oracle accepts the case");
        vec![
            ("out", read(out)),
            ("lse", read(lse)),
            ("dq", gradient(&query)),
            ("dk", of_keys(&key, &expected[3].1, 16)),
            ("dv", of_keys(&value, &expected[4].1, 8)),
            ("dbias", gradient(&bias)),
        ]
    });
    assert!(failures.is_empty(), "\n{}", failures.join("\n"));
}
