//! Dropout: which probabilities fall, and what that makes of outputs and gradients.

use attention_core::{
    DType,
    oracle::{self, Tensor4},
};
use attention_kernels::catalog::{Entry, Sizes};
use attention_models::{
    cli::verify::{
        burn_dtype,
        case::{Case, Outputs},
        upload, upload_mask,
        variants::integers,
    },
    nn::{MhaInput, MultiHeadAttention, MultiHeadAttentionConfig},
    ops::{AttentionOptions, attention_with_lse, composition::unfused_attention, variants},
};
use burn::tensor::{Device, Distribution, Tensor};

use crate::support::{devices, out_of_bounds, outputs, places};

pub const SEED: u64 = 0x1234_5678_9ABC_DEF0;

/// Philox4x32 as its paper has it.
fn philox(rounds: usize, mut counter: [u32; 4], mut key: [u32; 2]) -> [u32; 4] {
    let product = |a: u32, b: u32| u64::from(a) * u64::from(b);
    for _ in 0..rounds {
        let (a, c) = (
            product(counter[0], 0xD251_1F53),
            product(counter[2], 0xCD9E_8D57),
        );
        counter = [
            (c >> 32) as u32 ^ counter[1] ^ key[0],
            c as u32,
            (a >> 32) as u32 ^ counter[3] ^ key[1],
            a as u32,
        ];
        key = [
            key[0].wrapping_add(0x9E37_79B9),
            key[1].wrapping_add(0xBB67_AE85),
        ];
    }
    counter
}

/// The factor of the probability at `[batch, head, query, key]`.
pub fn factor(probability: f64, seed: u64, at: [usize; 4]) -> f64 {
    let [batch, head, i, j] = at.map(|index| index as u32);
    let word = philox(7, [i, j, head, batch], [seed as u32, (seed >> 32) as u32])[0];
    if f64::from(word) < (probability * 4_294_967_296.0).round() {
        0.0
    } else {
        1.0 / (1.0 - probability)
    }
}

#[test]
fn the_generator_gives_the_known_answers_of_its_authors() {
    assert_eq!(
        philox(10, [0; 4], [0; 2]),
        [0x6627_E8D5, 0xE169_C58D, 0xBC57_AC4C, 0x9B00_DBD8]
    );
    assert_eq!(
        philox(7, [0; 4], [0; 2]),
        [0x5F6F_B709, 0x0D89_3F64, 0x4F12_1F81, 0x4F73_0A48]
    );
}

/// What the oracle gives with factors of probabilities.
pub fn truth(case: &Case, weight: impl Fn([usize; 4]) -> f64 + Sync) -> Outputs {
    let modification = oracle::Modification {
        weight: Some(&weight),
        ..Default::default()
    };
    let (inputs, spec) = (&case.inputs, &case.spec);
    let forward = oracle::forward_modified(inputs, spec, modification).expect("it fits");
    let backward = oracle::backward_modified(inputs, spec, modification, &case.grad_out, None)
        .expect("it fits");
    vec![
        ("out", forward.out.data),
        ("lse", forward.lse),
        ("dq", backward.query.data),
        ("dk", backward.key.data),
        ("dv", backward.value.data),
    ]
}

/// The same from Burn's own operations, with the factors as a tensor.
pub fn unfused(case: &Case, dtype: DType, factors: &[f64]) -> Outputs {
    let device = Device::flex().autodiff();
    let inputs = &case.inputs;
    let options = AttentionOptions {
        spec: case.spec,
        mask: inputs.mask.as_ref().map(|mask| upload_mask(mask, &device)),
        bias: inputs
            .bias
            .as_ref()
            .map(|bias| upload(bias, dtype, &device)),
        ..AttentionOptions::default()
    };
    outputs(case, dtype, &device, &[], |[query, key, value]| {
        let [batch, heads, rows, _] = query.dims();
        let [_, kv_heads, keys, dim] = value.dims();
        // The values of the unit matrix are the probabilities.
        let unit = Tensor::<2>::eye(keys, &device).cast(burn_dtype(dtype));
        let unit = unit.unsqueeze::<4>().expand([batch, kv_heads, keys, keys]);
        let (weights, lse) = unfused_attention(query, key, unit, options).expect("it fits");
        let factors = Tensor4::new([batch, heads, rows, keys], factors.to_vec());
        let weights = weights * upload(&factors, dtype, &device);
        let grouped = weights.reshape([batch, kv_heads, heads / kv_heads * rows, keys]);
        let out = grouped.matmul(value).reshape([batch, heads, rows, dim]);
        (out, lse)
    })
}

fn failures(sizes: Sizes, dtype: DType, probability: f64) -> Vec<String> {
    let case = Case::of(&Entry::new("dropout", sizes)).rounded_to(dtype);
    let expected = truth(&case, |at| factor(probability, SEED, at));
    let factors: Vec<_> = places(sizes)
        .map(|at| factor(probability, SEED, at))
        .collect();
    let unfused = unfused(&case, dtype, &factors);
    out_of_bounds("dropout", dtype, &expected, &unfused, |device| {
        let options = AttentionOptions::default()
            .with_dropout(probability, SEED)
            .expect("it is a probability");
        outputs(
            &case,
            dtype,
            &device.clone().autodiff(),
            &[],
            |[query, key, value]| attention_with_lse(query, key, value, options),
        )
    })
}

#[test]
fn dropped_probabilities_give_no_value_and_the_others_more_forward_and_backward() {
    let mut failed = failures([2, 4, 2, 37, 53, 32, 16], DType::F32, 0.3);
    failed.extend(failures([1, 2, 2, 33, 19, 40, 40], DType::F32, 0.9));
    failed.extend(failures([1, 2, 1, 33, 40, 32, 32], DType::F16, 0.1));
    assert!(failed.is_empty(), "\n{}", failed.join("\n"));
}

#[test]
fn a_given_mask_of_what_is_kept_drops_the_rest() {
    const SIZES: Sizes = [2, 2, 2, 21, 30, 16, 16];
    let case = Case::of(&Entry::new("given dropout", SIZES)).rounded_to(DType::F32);
    let keeps = |[batch, head, i, j]: [usize; 4]| (i * 7 + j * 3 + head + batch) % 4 != 0;
    let factor = move |at| if keeps(at) { 1.0 / 0.75 } else { 0.0 };
    let expected = truth(&case, factor);
    let factors: Vec<_> = places(SIZES).map(factor).collect();
    let unfused = unfused(&case, DType::F32, &factors);
    let failures = out_of_bounds("given", DType::F32, &expected, &unfused, |device| {
        let keep: Vec<i32> = places(SIZES).map(|at| i32::from(keeps(at))).collect();
        let keep = integers(&keep, &device.clone().autodiff());
        let dropout =
            variants::given_dropout(0.25, keep, [2, 2, 21, 30]).expect("it is a probability");
        let options = AttentionOptions::default().with_weight_mod(dropout);
        outputs(
            &case,
            DType::F32,
            &device.clone().autodiff(),
            &[],
            |[query, key, value]| attention_with_lse(query, key, value, options),
        )
    });
    assert!(failures.is_empty(), "\n{}", failures.join("\n"));
}

#[test]
fn about_as_many_probabilities_fall_as_asked_for() {
    for probability in [0.1, 0.5] {
        let sizes = [2, 4, 4, 64, 64, 1, 1];
        let count = (2 * 4 * 64 * 64) as f64;
        let dropped = places(sizes).filter(|&at| factor(probability, SEED, at) == 0.0);
        let deviation = (count * probability * (1.0 - probability)).sqrt();
        assert!((dropped.count() as f64 - count * probability).abs() < 5.0 * deviation);
    }
}

#[test]
fn a_seed_drops_the_same_on_every_repeat_and_another_seed_does_not() {
    let case = Case::of(&Entry::new("dropout", [1, 2, 2, 70, 70, 16, 16])).rounded_to(DType::F32);
    let run = |device: &Device, seed| {
        let options = AttentionOptions::default()
            .with_dropout(0.2, seed)
            .expect("it is a probability");
        outputs(
            &case,
            DType::F32,
            &device.clone().autodiff(),
            &[],
            |[query, key, value]| attention_with_lse(query, key, value, options),
        )
    };
    for kind in devices() {
        let device = kind.open().expect("the device was found");
        let first = run(&device, SEED);
        for _ in 0..50 {
            assert_eq!(run(&device, SEED), first, "{kind}");
        }
        assert_ne!(run(&device, SEED + 1), first, "{kind}");
    }
}

#[test]
fn a_module_drops_in_training_and_not_in_inference() {
    let device = Device::flex();
    let module = MultiHeadAttentionConfig::new(32, 4)
        .with_dropout(0.5)
        .init(&device);
    let tokens = Tensor::<3>::random([1, 12, 32], Distribution::Default, &device);
    let run = |module: &MultiHeadAttention, tokens: &Tensor<3>| {
        module
            .forward(MhaInput::self_attn(tokens.clone()))
            .into_data()
    };
    assert_eq!(run(&module, &tokens), run(&module, &tokens));

    let training = device.clone().autodiff();
    let module = MultiHeadAttentionConfig::new(32, 4)
        .with_dropout(0.5)
        .init(&training);
    let tokens = Tensor::<3>::from_data(tokens.into_data(), &training);
    assert_ne!(run(&module, &tokens), run(&module, &tokens));
}

#[test]
fn a_module_refuses_a_dropout_of_one() {
    let config = MultiHeadAttentionConfig::new(32, 4).with_dropout(1.0);
    assert_eq!(
        config.try_init(&Device::flex()).unwrap_err().to_string(),
        "`dropout` is 1; accepted: from 0 to less than 1"
    );
}
