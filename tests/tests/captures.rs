//! What is refused of what functions capture.

use attention_core::AttentionError;
use attention_kernels::{
    block_map::{BlockShape, block_map},
    modification::{Captured, Lanes, Mask, Modification, Place},
    variants,
};
use attention_models::{
    device::DeviceKind,
    ops::{AttentionOptions, BlockMap, MaskMod, ScoreMod, WeightMod, try_attention},
};
use burn::tensor::{Device, Int, Tensor};
use cubecl::prelude::*;

fn refusal(options: AttentionOptions) -> String {
    let x = Tensor::<4>::ones([1, 1, 4, 8], &Device::flex().autodiff());
    match try_attention(x.clone(), x.clone(), x, options) {
        Err(error) => error.to_string(),
        Ok(_) => panic!("it was accepted"),
    }
}

#[test]
fn a_captured_tensor_that_expects_a_gradient_is_refused() {
    let strengths = Tensor::<1>::ones([1], &Device::flex().autodiff()).require_grad();
    let fading = ScoreMod::multiplicative(one_number::expand)
        .with_number(0.5)
        .with_floats(strengths);
    let options = AttentionOptions::default().with_score_mod(fading);
    assert_eq!(
        refusal(options),
        "`score_mod or mask_mod` is a captured tensor that expects a gradient; accepted: a \
         detached tensor; a learned table goes to `ScoreMod::lookup`"
    );
}

#[test]
fn a_captured_tensor_without_elements_is_refused() {
    let none = Tensor::<1, Int>::empty([0], &Device::flex().autodiff());
    let options = AttentionOptions::default().with_mask_mod(variants::padding(none));
    assert_eq!(
        refusal(options),
        "`mask_mod` has shape [0]; accepted: a captured tensor of at least one element"
    );
}

#[test]
fn a_captured_tensor_on_another_device_is_refused() {
    let elsewhere = DeviceKind::Vulkan
        .open()
        .or_else(|_| DeviceKind::Wgpu.open());
    let Ok(elsewhere) = elsewhere else {
        return;
    };
    let lengths = Tensor::<1, Int>::from_data([3], &elsewhere);
    let options = AttentionOptions::default().with_mask_mod(variants::padding(lengths));
    let message = refusal(options);
    assert!(message.starts_with("`mask_mod` is on device "), "{message}");
}

#[cube]
fn one_number(_at: &Place, captured: &Captured) -> Vector<f32, Lanes> {
    Vector::new(captured.number(0usize))
}

/// The second number is read only in a branch, and only of some queries.
#[cube]
fn two_numbers(at: &Place, captured: &Captured) -> Vector<f32, Lanes> {
    let mut factor = captured.number(0usize);
    if at.query.extract(0usize) > 2u32 {
        factor = captured.number(1usize);
    }
    Vector::new(factor)
}

#[cube]
fn identity(score: Vector<f32, Lanes>, _at: &Place, _captured: &Captured) -> Vector<f32, Lanes> {
    score
}

#[cube]
fn third_count(score: Vector<f32, Lanes>, _at: &Place, captured: &Captured) -> Vector<f32, Lanes> {
    score * Vector::cast_from(captured.count(2usize))
}

#[cube]
fn slot(at: &Place, captured: &Captured) -> Vector<u32, Lanes> {
    captured.integers(1usize, at.key)
}

#[cube]
fn first_float(at: &Place, captured: &Captured) -> Vector<bool, Lanes> {
    captured
        .floats(0usize, at.key)
        .greater_than(&Vector::new(0.5f32))
}

fn refused(name: &str, reads: &str, calls: &str) -> String {
    format!(
        "is `{}::{name}`, which reads `{reads}`; accepted: {calls}",
        module_path!()
    )
}

#[test]
fn a_number_that_the_next_function_captured_is_not_read_in_its_place() {
    let score = ScoreMod::additive(two_numbers::expand)
        .with_number(1.0)
        .then(ScoreMod::additive(one_number::expand).with_number(2.0));
    let expected = refused(
        "two_numbers",
        "number(1)",
        "at least 2 `with_number` for it, not 1",
    );
    assert_eq!(
        refusal(AttentionOptions::default().with_score_mod(score)),
        format!("`score_mod` {expected}")
    );
}

#[test]
fn a_function_reads_all_that_it_captured_itself() {
    let score = ScoreMod::additive(one_number::expand)
        .with_number(2.0)
        .then(ScoreMod::additive(two_numbers::expand))
        .with_number(1.0)
        .with_number(1.0);
    let x = Tensor::<4>::ones([1, 1, 4, 8], &Device::flex());
    let options = AttentionOptions::default().with_score_mod(score);
    assert!(try_attention(x.clone(), x.clone(), x, options).is_ok());
}

#[test]
fn a_derivative_and_a_slot_are_asked_too() {
    let map = ScoreMod::map(identity::expand, third_count::expand).with_count(1);
    let message = refusal(AttentionOptions::default().with_score_mod(map));
    assert!(message.contains("reads `count(2)`"), "{message}");
    assert!(
        message.contains("at least 3 `with_count` for it, not 1"),
        "{message}"
    );

    let device = Device::flex().autodiff();
    let lookup = ScoreMod::lookup(Tensor::ones([4], &device), 4, slot::expand)
        .with_integers(Tensor::zeros([4], &device));
    let message = refusal(AttentionOptions::default().with_score_mod(lookup));
    assert!(
        message.contains("slot`, which reads `integer(1)`"),
        "{message}"
    );
}

#[test]
fn a_factor_of_probabilities_without_its_number_is_refused() {
    let weight = WeightMod::new(one_number::expand);
    let expected = refused(
        "one_number",
        "number(0)",
        "at least 1 `with_number` for it, not 0",
    );
    assert_eq!(
        refusal(AttentionOptions::default().with_weight_mod(weight)),
        format!("`weight_mod` {expected}")
    );
}

#[test]
fn a_mask_without_its_tensor_is_refused_alone_in_a_tree_and_as_a_block_map() {
    let mask = || MaskMod::new(first_float::expand);
    let expected = refused(
        "first_float",
        "float(0)",
        "at least 1 `with_floats` for it, not 0",
    );
    let tree = variants::causal(0)
        .and(mask().not())
        .or(variants::causal(1));
    for mask in [mask(), tree] {
        assert_eq!(
            refusal(AttentionOptions::default().with_mask_mod(mask)),
            format!("`mask_mod` {expected}")
        );
    }
    let map = BlockMap::try_new(mask(), BlockShape::new(64, 64), &Device::flex());
    assert_eq!(
        map.expect_err("it reads what it did not capture")
            .to_string(),
        format!("`mask` {expected}")
    );
}

#[test]
fn kernels_that_are_launched_directly_refuse_it_as_well() {
    let mask = Mask::<()>::new(first_float::expand);
    let none = (|_: &()| 0, |_: &()| 0);
    let (modification, _) = Modification::new(None, Some(mask), None, none);
    let client = cubecl::Device::Cpu(Default::default()).client();
    let refusal = block_map(&client, &modification, None, None, BlockShape::new(64, 64));
    assert!(matches!(
        refusal,
        Err(AttentionError::Value {
            argument: "modification",
            ..
        })
    ));
}
