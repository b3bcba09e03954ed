//! Models in 16 bits, beside the same in 32.

use attention_models::models::{
    cast,
    decoder::Decoder,
    encoder::{Encoder, EncoderInput},
    generation::GenerationConfig,
    seq2seq::{Seq2Seq, Source},
    swin::SwinTransformer,
    vit::VisionTransformer,
};
use burn::tensor::{DType, Device, Distribution, FloatDType, Int, Tensor};

use super::golden;

/// Both in f32: what 16 bits give is near.
fn assert_near(name: &str, given: Tensor<3>, expected: Tensor<3>) {
    assert_eq!(given.dtype(), DType::F16, "{name}");
    let largest = expected.clone().abs().max().into_scalar::<f32>();
    let error = (given.cast(DType::F32) - expected)
        .abs()
        .max()
        .into_scalar::<f32>();
    assert!(error < 0.02 * largest, "{name}: {error} of {largest}");
}

#[test]
fn vision_transformers_in_16_bits_see_what_those_in_32_do_at_sizes_of_training_and_others() {
    let device = Device::flex();
    for (name, sides) in [
        ("vit", [32, 48].as_slice()),
        ("deit", &[32, 48]),
        ("dinov2", &[32, 48]),
        ("beit", &[32]),
    ] {
        let model = VisionTransformer::load(golden(name), &device).unwrap();
        let half = cast(model.clone(), FloatDType::F16);
        let channels = model.config().channels;
        for &side in sides {
            let shape = [1, channels, side, side];
            let pixels = Tensor::<4>::random(shape, Distribution::Normal(0.0, 1.0), &device);
            let expected = model.forward(pixels.clone()).last_hidden_state;
            assert_near(name, half.forward(pixels).last_hidden_state, expected);
        }
    }
}

#[test]
fn swin_in_16_bits_sees_what_it_does_in_32() {
    let device = Device::flex();
    for name in ["swin", "swinv2"] {
        let model = SwinTransformer::load(golden(name), &device).unwrap();
        let half = cast(model.clone(), FloatDType::F16);
        let pixels = Tensor::<4>::random([1, 3, 48, 48], Distribution::Normal(0.0, 1.0), &device);
        let flat = |output: Tensor<4>| output.flatten::<3>(1, 2);
        let expected = flat(model.forward(pixels.clone()).last_hidden_state);
        assert_near(name, flat(half.forward(pixels).last_hidden_state), expected);
    }
}

#[test]
fn models_of_text_in_16_bits_say_what_those_in_32_do() {
    let device = Device::flex();
    let tokens = Tensor::<2, Int>::from_data([[5, 9, 2, 7, 11, 3]], &device);
    for name in [
        "gpt2",
        "gpt_neox",
        "llama",
        "mixtral",
        "gemma2",
        "gemma3",
        "falcon_mqa",
        "bloom_alibi",
        "mpt_alibi",
        "diffllama",
    ] {
        let model = Decoder::load(golden(name), &device).unwrap();
        let half = cast(model.clone(), FloatDType::F16);
        assert_near(
            name,
            half.forward(tokens.clone()),
            model.forward(tokens.clone()),
        );
    }
    for name in ["bert", "roformer", "modernbert", "clip_text"] {
        let model = Encoder::load(golden(name), &device).unwrap();
        let half = cast(model.clone(), FloatDType::F16);
        let states = |model: &Encoder| {
            let output = model.try_forward(EncoderInput::new(tokens.clone()));
            output.unwrap().last_hidden_state
        };
        assert_near(name, states(&half), states(&model));
    }
}

#[test]
fn models_that_translate_do_it_in_16_bits() {
    let device = Device::flex();
    for name in ["t5", "marian", "bart"] {
        let model = Seq2Seq::load(golden(name), &device).unwrap();
        let half = cast(model.clone(), FloatDType::F16);
        let source = Source::text(Tensor::<2, Int>::from_data([[5, 9, 2, 7]], &device));
        let config = GenerationConfig {
            max_new_tokens: 4,
            ..model.config().generation.greedy()
        };
        let written = half.generate(source, &config).unwrap();
        assert!(!written[0].is_empty(), "{name}");
    }
}
