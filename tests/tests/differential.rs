//! Differential attention, forward and backward, against its oracle, and what it refuses.

use attention_core::{
    AttentionSpec, CausalAlignment, DType,
    oracle::{Mask4, Tensor4, differential},
};
use attention_kernels::{
    catalog::{Entry, Sizes},
    variants,
};
use attention_models::{
    cli::verify::{
        burn_dtype,
        case::{Case, Outputs},
        upload, upload_mask,
    },
    ops::{AttentionOptions, composition::unfused_attention, try_differential_attention},
};
use burn::tensor::{Device, Tensor, TensorData};

use crate::support::{devices, out_of_bounds};

/// Two maps over the same values, with the options of the first.
struct Maps {
    first: Case,
    second: Case,
    lambda: Vec<f64>,
}

/// Says the same to the kernels as the case's mask.
type Code = fn(AttentionOptions) -> AttentionOptions;

impl Maps {
    fn new(name: &str, sizes: Sizes, value_heads: usize, lambda: &[f64]) -> Self {
        let case = Case::of(&Entry::new(name, sizes).with_value_heads(value_heads));
        // Other numbers, of the same kind.
        let mut second = case.clone();
        for tensor in [&mut second.inputs.query, &mut second.inputs.key] {
            tensor.data.reverse();
        }
        Self {
            first: case,
            second,
            lambda: lambda.to_vec(),
        }
    }

    fn rounded_to(&self, dtype: DType) -> Self {
        Self {
            first: self.first.rounded_to(dtype),
            second: self.second.rounded_to(dtype),
            lambda: self.lambda.iter().map(|&l| f64::from(l as f32)).collect(),
        }
    }

    fn expected(&self) -> Outputs {
        let (first, second) = (&self.first.inputs, &self.second.inputs);
        let inputs = differential::Inputs {
            query: [first.query.clone(), second.query.clone()],
            key: [first.key.clone(), second.key.clone()],
            value: first.value.clone(),
            lambda: self.lambda.clone(),
            mask: first.mask.clone(),
            bias: first.bias.clone(),
        };
        let spec = &self.first.spec;
        let out = differential::forward(&inputs, spec).expect("it fits");
        let gradients = differential::backward(&inputs, spec, &self.first.grad_out);
        let gradients = gradients.expect("it fits");
        let ([dq1, dq2], [dk1, dk2]) = (gradients.query, gradients.key);
        let mut outputs = vec![
            ("out", out.data),
            ("dq1", dq1.data),
            ("dq2", dq2.data),
            ("dk1", dk1.data),
            ("dk2", dk2.data),
            ("dv", gradients.value.data),
            ("dlambda", gradients.lambda),
        ];
        outputs.extend(gradients.bias.map(|bias| ("dbias", bias.data)));
        outputs
    }

    /// Ours; with `code`, without the mask that says the same.
    fn fused(&self, dtype: DType, device: &Device, code: Option<Code>) -> Outputs {
        self.run(dtype, device, |query, key, value, lambda, options| {
            let options = match code {
                Some(code) => code(AttentionOptions {
                    mask: None,
                    ..options
                }),
                None => options,
            };
            try_differential_attention(query, key, value, lambda, options).expect("it is accepted")
        })
    }

    /// Two unfused attentions in `dtype`, and their difference in `f32` as ours has it.
    fn unfused(&self, dtype: DType) -> Outputs {
        let f32 = burn_dtype(DType::F32);
        self.run(
            dtype,
            &Device::flex(),
            |query, key, value, lambda, options| {
                let attend = |n: usize| {
                    let (query, key, value) = (query[n].clone(), key[n].clone(), value.clone());
                    let attended = unfused_attention(query, key, value, options.clone());
                    attended.expect("it is accepted").0.cast(f32)
                };
                let factors = lambda.dims()[0];
                let second = attend(1) * lambda.reshape([1, factors, 1, 1]);
                (attend(0) - second).cast(burn_dtype(dtype))
            },
        )
    }

    fn run(
        &self,
        dtype: DType,
        device: &Device,
        operation: impl Fn(
            [Tensor<4>; 2],
            [Tensor<4>; 2],
            Tensor<4>,
            Tensor<1>,
            AttentionOptions,
        ) -> Tensor<4>,
    ) -> Outputs {
        let device = device.clone().autodiff();
        let tracked = |tensor: &Tensor4| upload(tensor, dtype, &device).require_grad();
        let (first, second) = (&self.first.inputs, &self.second.inputs);
        let query = [tracked(&first.query), tracked(&second.query)];
        let key = [tracked(&first.key), tracked(&second.key)];
        let value = tracked(&first.value);
        let lambda = TensorData::new(self.lambda.clone(), [self.lambda.len()]);
        let lambda = Tensor::<1>::from_data(lambda, (&device, burn_dtype(DType::F32)));
        let lambda = lambda.require_grad();
        let bias = first.bias.as_ref().map(tracked);
        let mask = first.mask.as_ref().map(|mask| upload_mask(mask, &device));
        let options = AttentionOptions {
            bias: bias.clone(),
            mask,
            ..AttentionOptions::from(self.first.spec)
        };
        let out = operation(
            query.clone(),
            key.clone(),
            value.clone(),
            lambda.clone(),
            options,
        );
        let grad_out = upload(&self.first.grad_out, dtype, &device);
        let loss = (out.clone() * grad_out).cast(burn_dtype(DType::F32));
        let gradients = loss.sum().backward();
        let gradient = |tensor: &Tensor<4>| read(tensor.grad(&gradients).expect("tracked"));
        let mut outputs = vec![
            ("out", read(out)),
            ("dq1", gradient(&query[0])),
            ("dq2", gradient(&query[1])),
            ("dk1", gradient(&key[0])),
            ("dk2", gradient(&key[1])),
            ("dv", gradient(&value)),
            ("dlambda", read(lambda.grad(&gradients).expect("tracked"))),
        ];
        outputs.extend(bias.map(|bias| ("dbias", gradient(&bias))));
        outputs
    }

    fn assert_within_bounds(&self, dtype: DType, code: Option<Code>) {
        let maps = self.rounded_to(dtype);
        let (expected, unfused) = (maps.expected(), maps.unfused(dtype));
        let name = &self.first.name;
        let failures = out_of_bounds(name, dtype, &expected, &unfused, |device| {
            maps.fused(dtype, device, code)
        });
        assert!(failures.is_empty(), "\n{}", failures.join("\n"));
    }
}

fn read<const D: usize>(tensor: Tensor<D>) -> Vec<f64> {
    tensor.into_data().iter::<f64>().collect()
}

const HEADS: usize = 64;

/// A factor for each head: the largest of few errors would be compared with the luck of a few roundings.
fn lambda() -> [f64; HEADS] {
    std::array::from_fn(|head| (head * 37 % HEADS) as f64 / 50.0 - 0.3)
}

/// Grouped heads, causal.
fn grouped() -> Maps {
    let mut maps = Maps::new("grouped", [2, HEADS, 32, 37, 53, 32, 64], 32, &lambda());
    let spec = AttentionSpec::default().with_causal(CausalAlignment::BottomRight);
    maps.first.spec = spec;
    maps
}

#[test]
fn one_map_for_each_of_two_sets_of_heads_agrees_with_the_oracle() {
    let maps = Maps::new("plain", [1, HEADS, HEADS, 33, 33, 40, 80], HEADS, &lambda());
    maps.assert_within_bounds(DType::F32, None);
}

#[test]
fn grouped_causal_heads_agree_with_the_oracle() {
    grouped().assert_within_bounds(DType::F32, None);
}

#[test]
fn half_precision_agrees_with_the_oracle() {
    grouped().assert_within_bounds(DType::F16, None);
}

#[test]
fn both_maps_share_mask_and_bias_of_every_head() {
    const SIZES: Sizes = [2, HEADS, 32, 19, 23, 16, 32];
    let mut maps = Maps::new("mask and bias", SIZES, 16, &lambda());
    let options = Entry::new("options", SIZES)
        .with_mask([1, HEADS, 19, 23])
        .with_bias([2, HEADS, 1, 23]);
    let options = Case::of(&options).inputs;
    (maps.first.inputs.mask, maps.first.inputs.bias) = (options.mask, options.bias);
    maps.assert_within_bounds(DType::F32, None);
}

#[test]
fn a_mask_as_code_hides_keys_from_both_maps() {
    let mut maps = Maps::new("window", [1, HEADS, 32, 41, 41, 16, 32], 32, &lambda());
    let positions = (0..41 * 41).map(|n| (n / 41, n % 41));
    let hidden = positions.map(|(i, j)| j > i || j + 9 < i);
    maps.first.inputs.mask = Some(Mask4::new([1, 1, 41, 41], hidden.collect()));
    let code = |options: AttentionOptions| options.with_mask_mod(variants::sliding_window(9, 0, 0));
    maps.assert_within_bounds(DType::F32, Some(code));
}

#[test]
fn one_factor_for_all_heads_receives_the_sum_of_their_gradients() {
    // Even attention to four keys with small whole numbers: every step is exact.
    let mut maps = Maps::new("exact", [2, 4, 2, 3, 4, 8, 16], 2, &[0.5]);
    for tensor in [&mut maps.first.inputs.query, &mut maps.second.inputs.query] {
        tensor.data.fill(0.0);
    }
    for tensor in [&mut maps.first.inputs.value, &mut maps.first.grad_out] {
        tensor
            .data
            .iter_mut()
            .for_each(|value| *value = value.round());
    }
    let expected = maps.expected();
    for kind in devices() {
        let device = kind.open().expect("the device was found");
        let ours = maps.rounded_to(DType::F32).fused(DType::F32, &device, None);
        assert_eq!(ours[6], expected[6], "{kind}");
    }
}

#[test]
fn no_queries_and_no_keys_give_nothing_and_zeros() {
    let device = Device::flex();
    let attend = |seq_q, seq_kv| {
        let zeros = |seq| Tensor::<4>::ones([2, 2, seq, 8], &device);
        let (query, key) = (zeros(seq_q), zeros(seq_kv));
        let lambda = Tensor::from_data([0.5], &device);
        let options = AttentionOptions::default();
        let maps = ([query.clone(), query], [key.clone(), key.clone()]);
        try_differential_attention(maps.0, maps.1, key, lambda, options).expect("it is accepted")
    };
    assert_eq!(attend(0, 3).dims(), [2, 2, 0, 8]);
    assert_eq!(read(attend(3, 0)), [0.0; 2 * 2 * 3 * 8]);
}

fn zeros(shape: [usize; 4]) -> Tensor<4> {
    Tensor::zeros(shape, &Device::flex())
}

fn refusal(query: [Tensor<4>; 2], key: [Tensor<4>; 2], lambda: Tensor<1>) -> String {
    let value = zeros([1, 2, 5, 16]);
    let options = AttentionOptions::default();
    match try_differential_attention(query, key, value, lambda, options) {
        Err(error) => error.to_string(),
        Ok(_) => panic!("it was accepted"),
    }
}

#[test]
fn maps_that_differ_are_refused_by_name() {
    let query = || zeros([1, 4, 5, 8]);
    let key = || zeros([1, 2, 5, 8]);
    let lambda = || Tensor::<1>::zeros([1], &Device::flex());
    assert_eq!(
        refusal([query(), zeros([1, 4, 6, 8])], [key(), key()], lambda()),
        "`query[1]` has shape [1, 4, 6, 8]; accepted: [1, 4, 5, 8]"
    );
    assert_eq!(
        refusal([query(), query()], [key(), zeros([1, 4, 5, 8])], lambda()),
        "`key[1]` has shape [1, 4, 5, 8]; accepted: [1, 2, 5, 8]"
    );
    let half = key().cast(burn_dtype(DType::F16));
    assert_eq!(
        refusal([query(), query()], [key(), half], lambda()),
        "`key[1]` has dtype f16; accepted: f32"
    );
    let elsewhere = Tensor::<1>::zeros([1], &Device::cpu());
    let message = refusal([query(), query()], [key(), key()], elsewhere);
    assert!(message.starts_with("`lambda` is on device "), "{message}");
}

#[test]
fn a_factor_for_each_key_head_is_refused() {
    let query = || zeros([1, 4, 5, 8]);
    let key = || zeros([1, 2, 5, 8]);
    assert_eq!(
        refusal(
            [query(), query()],
            [key(), key()],
            Tensor::zeros([2], &Device::flex())
        ),
        "`lambda` has shape [2]; accepted: [1] or [4]"
    );
}
