//! Pictures edited by their prompt, and maps of words.

use attention_models::models::diffusion::{
    AttentionControl, Noise, Plain, Site,
    pipeline::{
        Alignment, Guidance, LatentDiffusion, PromptToPrompt, SamplingConfig, WordMaps, words,
    },
};
use burn::tensor::{Device, Tensor, Tolerance, activation::softmax};

use super::{diffusion::difference, golden};
use crate::support::devices;
/// The tokens of "a NOUN on grass".
fn prompt(noun: &str) -> [String; 5] {
    let word = |text: &str| format!("{text}</w>");
    let begin = "<|startoftext|>".to_string();
    [begin, word("a"), word(noun), word("on"), word("grass")]
}

pub(super) fn random(shape: [usize; 4], seed: u64, device: &Device) -> Tensor<4> {
    Noise::new(seed).normal(shape, device)
}

fn probabilities(query: &Tensor<4>, key: &Tensor<4>) -> Tensor<4> {
    let scale = (query.dims()[3] as f64).sqrt();
    let scores = query.clone().matmul(key.clone().transpose());
    softmax(scores.div_scalar(scale), 3)
}

fn close(given: Tensor<4>, expected: Tensor<4>) {
    let expected = expected.into_data();
    let tolerance = Tolerance::absolute(1e-5);
    given
        .into_data()
        .assert_approx_eq::<f32>(&expected, tolerance);
}

#[test]
fn an_edited_map_is_the_aligned_map_of_the_first_picture_with_weights() {
    let cross = Site {
        index: 1,
        cross: true,
        grid: [2, 3],
    };
    for device in devices() {
        let [query, key, value] =
            [(6, 1), (5, 2), (5, 3)].map(|(length, seed)| random([4, 2, length, 8], seed, &device));
        let (first, second) = (
            words(&prompt("cat")),
            words(&["a</w>", "big</w>", "cat</w>"]),
        );
        let alignment = Alignment::refine(&first, &second, 5);
        let mut edit = PromptToPrompt::new(&alignment, &device).with_weight(1..2, 3.0);
        edit.begin_step(0, 10);
        let given = edit.attend(cross, query.clone(), key.clone(), value.clone());

        // The second prompt, "a big cat", begins at token 0; "a" and "cat" come from the first.
        let maps = probabilities(&query, &key);
        let own = maps.clone().slice_dim(0, 3..4);
        let from = maps.clone().slice_dim(0, 2..3);
        let column = |map: &Tensor<4>, token: usize| map.clone().slice_dim(3, token..token + 1);
        let mapped = Tensor::cat(
            vec![
                column(&from, 1),
                column(&own, 1).mul_scalar(3.0),
                column(&from, 2),
                column(&own, 3),
                column(&own, 4),
            ],
            3,
        );
        let maps = Tensor::cat(vec![maps.slice_dim(0, ..3), mapped], 0);
        close(given, maps.matmul(value));
    }
}

#[test]
fn maps_are_taken_over_only_in_the_first_part_of_the_steps() {
    let device = Device::flex();
    let own = |grid: [usize; 2]| Site {
        index: 0,
        cross: false,
        grid,
    };
    let [query, key, value] = [1, 2, 3].map(|seed| random([2, 1, 6, 8], seed, &device));
    let same = words(&prompt("cat"));
    let alignment = Alignment::replace(&same, &same, 5).unwrap();
    let mut edit = PromptToPrompt::new(&alignment, &device).with_steps(0.5, 0.5);
    let mut at = |step: usize| {
        edit.begin_step(step, 10);
        edit.attend(own([2, 3]), query.clone(), key.clone(), value.clone())
    };
    let maps = probabilities(&query, &key);
    let first = maps.clone().slice_dim(0, ..1);
    let taken = Tensor::cat(vec![first.clone(), first], 0);
    close(at(4), taken.matmul(value.clone()));
    close(at(5), maps.matmul(value.clone()));
}

/// The golden's pipeline, and texts of five tokens that differ at the third.
fn pipeline(device: &Device) -> (LatentDiffusion, Guidance, SamplingConfig) {
    let model = LatentDiffusion::load(golden("stable_diffusion"), device).unwrap();
    let mut noise = Noise::new(11);
    let first = noise.normal::<3>([1, 5, 32], device);
    let other = noise.normal::<3>([1, 1, 32], device);
    let second = first.clone().slice_assign([0..1, 2..3, 0..32], other);
    let text = Tensor::cat(vec![first, second], 0);
    let guidance = Guidance {
        negative: text.zeros_like(),
        text,
    };
    let sampling = SamplingConfig::new().with_steps(2).with_guidance(3.0);
    (model, guidance, sampling)
}

#[test]
fn a_picture_edited_by_the_same_prompt_is_the_first_picture() {
    let device = Device::flex();
    let (model, mut guidance, sampling) = pipeline(&device);
    let first = guidance.text.clone().slice_dim(0, ..1);
    guidance.text = Tensor::cat(vec![first.clone(), first], 0);
    let same = words(&prompt("cat"));
    let alignment = Alignment::replace(&same, &same, 5).unwrap();
    let mut edit = PromptToPrompt::new(&alignment, &device);
    let noise = random([1, 4, 8, 8], 7, &device).expand([2, 4, 8, 8]);
    let mut generator = Noise::new(0);
    let latents = model
        .sample(
            noise,
            &guidance,
            &sampling,
            &mut edit,
            &mut generator,
            |_, _| (),
        )
        .unwrap();
    let (first, second) = (latents.clone().slice_dim(0, ..1), latents.slice_dim(0, 1..));
    close(second, first);
}

#[test]
fn an_edited_picture_differs_from_both_of_its_prompts() {
    let device = Device::flex();
    let (model, guidance, sampling) = pipeline(&device);
    let noise = || random([1, 4, 8, 8], 7, &device).expand([2, 4, 8, 8]);
    let sample = |control: &mut dyn AttentionControl| {
        let mut generator = Noise::new(0);
        model
            .sample(
                noise(),
                &guidance,
                &sampling,
                control,
                &mut generator,
                |_, _| (),
            )
            .unwrap()
    };
    let plain = sample(&mut Plain);
    let (first, second) = (words(&prompt("cat")), words(&prompt("dog")));
    let alignment = Alignment::replace(&first, &second, 5).unwrap();
    let edited = sample(&mut PromptToPrompt::new(&alignment, &device));
    let picture =
        |pictures: &Tensor<4>, index: usize| pictures.clone().slice_dim(0, index..index + 1);
    assert!(difference(picture(&plain, 0), picture(&edited, 0)) < 1e-5);
    assert!(difference(picture(&plain, 1), picture(&edited, 1)) > 1e-3);
}

#[test]
fn the_maps_of_all_words_add_up_to_one_at_every_pixel() {
    let device = Device::flex();
    let (model, guidance, sampling) = pipeline(&device);
    let mut maps = WordMaps::new(2);
    let noise = random([2, 4, 8, 8], 7, &device);
    let mut steps = 0;
    model
        .sample(
            noise,
            &guidance,
            &sampling,
            &mut maps,
            &mut Noise::new(0),
            |_, _| {
                steps += 1;
            },
        )
        .unwrap();
    assert_eq!(steps, 2);
    let all = maps.heat(1, 0..5).unwrap();
    assert_eq!(all.grid, [4, 4]);
    assert!(all.values.iter().all(|value| (value - 1.0).abs() < 1e-4));
    let one = maps.heat(1, 2..3).unwrap();
    assert!(one.values.iter().all(|value| (0.0..1.0).contains(value)));
    assert_eq!(maps.heat(2, 0..1), None);
    assert_eq!(maps.heat(0, 4..6), None);
}

#[test]
fn a_control_for_another_number_of_pictures_is_refused() {
    let device = Device::flex();
    let (model, guidance, sampling) = pipeline(&device);
    let noise = random([2, 4, 8, 8], 7, &device);
    let refusal = model.sample(
        noise,
        &guidance,
        &sampling,
        &mut WordMaps::new(3),
        &mut Noise::new(0),
        |_, _| (),
    );
    let refusal = refusal.unwrap_err().to_string();
    assert_eq!(
        refusal,
        "`noise` is 2 images; accepted: 3, as the control has"
    );
    let size = model.noise(1, [24, 30], &mut Noise::new(0), &device);
    assert!(
        size.unwrap_err()
            .to_string()
            .contains("multiples of 4 pixels")
    );
}
