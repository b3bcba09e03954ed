//! Diffusion: goldens of diffusers, schedulers, editing by the prompt, and what is refused.

use attention_models::cli::verify_models::check_model_golden;
use attention_models::models::diffusion::{
    AttentionControl, AutoencoderKl, AutoencoderKlConfig, DiT, DiTConfig, Noise, Plain, Site,
    Stages, UNet2DConditionConfig, UNet2DConditionModel, UNet2DConfig, UNet2DModel,
    guided::GuidedUNetConfig,
    pipeline::{
        Alignment, Guidance, LatentDiffusion, PromptToPrompt, SamplingConfig, WordMaps, words,
    },
    schedulers::{
        DdimConfig, DdpmConfig, DpmSolverConfig, EulerConfig, Scheduler, SchedulerConfig,
    },
};
use burn::tensor::{Device, Int, Tensor, Tolerance, activation::softmax};

use super::golden;
use crate::support::devices;

fn passes(name: &str, outputs: &[&str]) {
    for device in devices() {
        let folder = golden(name);
        let file = folder.join("io.safetensors");
        let rows = check_model_golden(name, &file, &folder, &device).unwrap();
        let names: Vec<_> = rows.iter().map(|row| row.name.as_str()).collect();
        assert_eq!(names, outputs);
        for row in rows {
            assert!(row.passes(), "{name} on {device:?}: {row:?}");
        }
    }
}

const SCHEDULED: [&str; 6] = [
    "add_noise",
    "alphas_cumprod",
    "init_noise_sigma",
    "model_inputs",
    "samples",
    "timesteps",
];
const SCHEDULED_BY_SIGMA: [&str; 7] = [
    "add_noise",
    "alphas_cumprod",
    "init_noise_sigma",
    "model_inputs",
    "samples",
    "sigmas",
    "timesteps",
];

#[test]
fn a_unet_with_a_text_computes_what_diffusers_computes() {
    passes("unet2d_condition", &["sample"]);
}

#[test]
fn a_unet_with_attention_computes_what_diffusers_computes() {
    passes("unet2d_attn", &["sample"]);
}

#[test]
fn the_diffusion_transformer_computes_what_diffusers_computes() {
    passes("dit", &["sample"]);
}

#[test]
fn the_autoencoder_computes_what_diffusers_computes() {
    passes("vae_kl", &["decoded", "logvar", "mean"]);
}

#[test]
fn ddpm_steps_as_in_diffusers_with_the_noise_of_torch() {
    passes("sched_ddpm", &SCHEDULED);
    passes("sched_ddpm_cosine", &SCHEDULED);
}

#[test]
fn ddim_steps_as_in_diffusers() {
    passes("sched_ddim", &SCHEDULED);
}

#[test]
fn euler_steps_as_in_diffusers() {
    passes("sched_euler", &SCHEDULED_BY_SIGMA);
}

#[test]
fn dpm_solver_steps_as_in_diffusers_on_karras_noise_levels() {
    passes("sched_dpmpp", &SCHEDULED_BY_SIGMA);
}

/// A model that knows the one image there is predicts exactly the noise that was added.
#[test]
fn every_scheduler_ends_at_the_image_when_the_noise_is_known_exactly() {
    let device = Device::flex();
    let image = Tensor::<4>::full([1, 1, 4, 4], 0.3, &device);
    let schedulers: [Box<dyn Scheduler>; 4] = [
        Box::new(DdpmConfig::new().try_init(20).unwrap()),
        Box::new(DdimConfig::new().try_init(20).unwrap()),
        Box::new(EulerConfig::new().try_init(20).unwrap()),
        Box::new(DpmSolverConfig::new().try_init(20).unwrap()),
    ];
    for mut scheduler in schedulers {
        let mut noise = Noise::new(3);
        let start = noise.normal([1, 1, 4, 4], &device);
        let mut sample = start.mul_scalar(scheduler.initial_sigma());
        for (step, time) in scheduler.timesteps().to_vec().into_iter().enumerate() {
            let ones = image.ones_like();
            let zero = image.zeros_like();
            let alpha = scheduler
                .add_noise(ones.clone(), zero.clone(), &[time])
                .unwrap();
            let sigma = scheduler.add_noise(zero, ones, &[time]).unwrap();
            let output = (sample.clone() - alpha * image.clone()) / sigma;
            sample = scheduler.step(output, step, sample, &mut noise);
        }
        let tolerance = Tolerance::absolute(0.02);
        let (given, expected) = (sample.into_data(), image.clone().into_data());
        given.assert_approx_eq::<f32>(&expected, tolerance);
    }
}

#[test]
fn a_scheduler_option_that_is_not_offered_is_refused_by_its_name() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("scheduler_config.json");
    let refusal = |text: &str| {
        std::fs::write(&file, text).unwrap();
        SchedulerConfig::load(folder.path())
            .unwrap_err()
            .to_string()
    };
    let sigmas = r#"{"_class_name": "EulerDiscreteScheduler", "use_beta_sigmas": true}"#;
    assert!(refusal(sigmas).contains("`use_beta_sigmas` is true; accepted: false"));
    let third = r#"{"_class_name": "DPMSolverMultistepScheduler", "solver_order": 3}"#;
    assert!(refusal(third).contains("`solver_order` is 3; accepted: 1, 2"));
    let other = refusal(r#"{"_class_name": "PNDMScheduler"}"#);
    assert!(other.contains("the scheduler PNDMScheduler"), "{other}");
    assert!(other.contains("DDIMScheduler"), "{other}");
}

#[test]
fn a_folder_of_another_class_is_refused_with_the_class_that_is_read() {
    let refusal = UNet2DConditionModel::load(&golden("vae_kl"), &Device::flex()).unwrap_err();
    let refusal = refusal.to_string();
    assert!(
        refusal.contains("the architecture AutoencoderKL"),
        "{refusal}"
    );
    assert!(refusal.contains("UNet2DConditionModel"), "{refusal}");
    assert!(AutoencoderKl::load(&golden("dit"), &Device::flex()).is_err());
}

/// The largest difference of two images.
fn difference(first: Tensor<4>, second: Tensor<4>) -> f32 {
    (first - second).abs().max().into_scalar()
}

#[test]
fn a_model_that_was_saved_is_the_model_that_is_loaded() {
    let device = Device::flex();
    let folder = tempfile::tempdir().unwrap();
    let (images, times) = (random([2, 4, 8, 8], 1, &device), [10.0, 500.0]);
    let times = || Tensor::<1>::from_data(times, &device);
    let classes = || Tensor::<1, Int>::from_data([3, 7], &device);

    let stages = Stages::new(vec![32, 64], 1, vec![false, true]);
    let unet = UNet2DConfig::new(4, 4, stages.clone())
        .with_classes(Some(10))
        .init(&device);
    let run = |unet: &UNet2DModel| unet.forward(images.clone(), times(), Some(classes()));
    unet.save(folder.path()).unwrap();
    let loaded = UNet2DModel::load(folder.path(), &device).unwrap();
    assert_eq!(loaded.config(), unet.config());
    assert_eq!(difference(run(&unet), run(&loaded)), 0.0);

    let unet = UNet2DConditionConfig::new(4, 4, stages, 16).init(&device);
    let text = Noise::new(5).normal::<3>([2, 5, 16], &device);
    let run = |unet: &UNet2DConditionModel| unet.forward(images.clone(), times(), text.clone());
    unet.save(folder.path()).unwrap();
    let loaded = UNet2DConditionModel::load(folder.path(), &device).unwrap();
    assert_eq!(difference(run(&unet), run(&loaded)), 0.0);

    let vae = AutoencoderKlConfig::new(vec![32, 64], 1).init(&device);
    vae.save(folder.path()).unwrap();
    let loaded = AutoencoderKl::load(folder.path(), &device).unwrap();
    assert_eq!(loaded.config(), vae.config());
    let (given, expected) = (loaded.decode(images.clone()), vae.decode(images.clone()));
    assert_eq!(difference(given, expected), 0.0);

    let dit = DiTConfig::new(8, 2, 4, 8, 2, 4, 8, 10).init(&device);
    let run = |dit: &DiT| dit.forward(images.clone(), times(), classes());
    dit.save(folder.path()).unwrap();
    let loaded = DiT::load(folder.path(), &device).unwrap();
    assert_eq!(loaded.config(), dit.config());
    assert_eq!(difference(run(&dit), run(&loaded)), 0.0);
}

#[test]
fn images_that_do_not_fit_are_refused_before_anything_runs() {
    let device = Device::flex();
    let stages = || Stages::new(vec![32, 64], 1, vec![false, true]);
    let unet = UNet2DConfig::new(1, 1, stages()).init(&device);
    let times = || Tensor::<1>::zeros([1], &device);
    let image = |side| Tensor::<4>::zeros([1, 1, side, side], &device);
    let odd = unet.try_forward(image(7), times(), None, &mut Plain);
    let odd = odd.unwrap_err().to_string();
    assert!(odd.contains("multiples of 2"), "{odd}");
    let class = Tensor::from_data([1], &device);
    let class = unet.try_forward(image(8), times(), Some(class), &mut Plain);
    assert!(class.unwrap_err().to_string().contains("knows no classes"));

    let text_unet = UNet2DConditionConfig::new(1, 1, stages(), 16).init(&device);
    let text = Tensor::<3>::zeros([1, 5, 24], &device);
    let refusal = text_unet.try_forward(image(8), times(), text, &mut Plain);
    let refusal = refusal.unwrap_err().to_string();
    assert_eq!(
        refusal,
        "`text` has shape [1, 5, 24]; accepted: [1, tokens, 16]"
    );

    let norm = UNet2DConfig::new(1, 1, Stages::new(vec![24], 1, vec![true]));
    assert!(
        norm.try_init(&device)
            .unwrap_err()
            .to_string()
            .contains("32 norm groups")
    );
    let wide = DiTConfig::new(8, 2, 4, 8, 1, 1, 300, 10).try_init(&device);
    assert!(wide.unwrap_err().to_string().contains("`head_dim` is 300"));
    let level = GuidedUNetConfig::new(32, vec![1], 1, vec![1]).try_init(&device);
    assert!(level.unwrap_err().to_string().contains("levels below 1"));
}

/// The tokens of "a NOUN on grass".
fn prompt(noun: &str) -> [String; 5] {
    let word = |text: &str| format!("{text}</w>");
    let begin = "<|startoftext|>".to_string();
    [begin, word("a"), word(noun), word("on"), word("grass")]
}

fn random(shape: [usize; 4], seed: u64, device: &Device) -> Tensor<4> {
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
    let model = LatentDiffusion::load(&golden("stable_diffusion"), device).unwrap();
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
