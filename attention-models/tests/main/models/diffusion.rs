//! Diffusion: goldens of diffusers, schedulers, and what is refused.

use attention_models::models::checkpoint::{Checkpoint, Format, NameTable, Source::Whole};
use attention_models::models::diffusion::{
    AutoencoderKl, AutoencoderKlConfig, DiT, DiTConfig, Noise, Plain, Stages,
    UNet2DConditionConfig, UNet2DConditionModel, UNet2DConfig, UNet2DModel,
    guided::{GuidedUNet, GuidedUNetConfig},
    pipeline::StableDiffusion,
    schedulers::{
        DdimConfig, DdpmConfig, DpmSolverConfig, EulerConfig, PndmConfig, Scheduler,
        SchedulerConfig,
    },
};
use burn::tensor::{Device, Int, Tensor, Tolerance};

use super::{editing::random, golden, passes};

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
fn stable_diffusion_draws_what_diffusers_draws() {
    let outputs = ["image", "latents_steps", "prompt_embeds", "uncond_embeds"];
    passes("stable_diffusion", &outputs);
}

#[test]
fn a_prompt_is_its_words_and_its_vectors() {
    let model = StableDiffusion::load(golden("stable_diffusion"), &Device::flex()).unwrap();
    let prompt = model.prompt("A photo of a cat").unwrap();
    let words: Vec<_> = prompt.words.iter().map(|word| word.text.as_str()).collect();
    assert_eq!(words, ["a", "photo", "of", "a", "cat"]);
    assert_eq!(prompt.embedding.dims(), [1, 77, 32]);
    let long = model.prompt(&"fox ".repeat(200)).unwrap();
    assert_eq!(long.embedding.dims(), [1, 77, 32]);
    let refusal = StableDiffusion::load(golden("vae_kl"), &Device::flex()).unwrap_err();
    assert!(
        refusal.to_string().contains("model_index.json"),
        "{refusal}"
    );
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

#[test]
fn pndm_steps_as_in_diffusers_with_its_first_step_made_twice() {
    passes("sched_pndm", &SCHEDULED);
}

/// A model that knows the one image there is predicts exactly the noise that was added.
#[test]
fn every_scheduler_ends_at_the_image_when_the_noise_is_known_exactly() {
    let device = Device::flex();
    let image = Tensor::<4>::full([1, 1, 4, 4], 0.3, &device);
    let schedulers: [Box<dyn Scheduler>; 5] = [
        Box::new(DdpmConfig::new().try_init(20).unwrap()),
        Box::new(DdimConfig::new().try_init(20).unwrap()),
        Box::new(EulerConfig::new().try_init(20).unwrap()),
        Box::new(DpmSolverConfig::new().try_init(20).unwrap()),
        Box::new(PndmConfig::new().try_init(20).unwrap()),
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
fn a_ddim_step_from_a_clipped_image_keeps_the_noise_that_it_is_asked_to() {
    let device = Device::flex();
    let one = |value: f64| Tensor::<4>::full([1, 1, 1, 1], value, &device);
    let (sample, predicted) = (2.0, -3.0);
    let config = DdimConfig::new();
    let schedule = config.noise.init();
    for clipped_noise in [false, true] {
        let config = config.clone().with_clipped_noise(clipped_noise);
        let mut ddim = config.try_init(10).unwrap();
        let [(alpha, sigma), (alpha_after, sigma_after)] =
            [0, 1].map(|step| schedule.factors(ddim.timesteps()[step] as usize));
        assert!((sample - sigma * predicted) / alpha > 1.0, "it is clipped");
        let noise = if clipped_noise {
            (sample - alpha) / sigma
        } else {
            predicted
        };
        let expected = alpha_after + sigma_after * noise;
        let next = ddim.step(one(predicted), 0, one(sample), &mut Noise::new(0));
        let next = f64::from(next.into_scalar::<f32>());
        assert!(
            (next - expected).abs() < 1e-6 * expected.abs(),
            "{next}, {expected}"
        );
    }
}

#[test]
fn a_guided_unet_is_read_and_saved_under_the_names_of_guided_diffusion() {
    const NAMES: NameTable = NameTable {
        prefixes: &[],
        backbone: &[
            (
                "input_blocks.{}.{}.Convolution",
                Whole("input_blocks.{}.{}"),
            ),
            ("input_blocks.{}.{}.Residual", Whole("input_blocks.{}.{}")),
            ("input_blocks.{}.{}.Attention", Whole("input_blocks.{}.{}")),
            ("output_blocks.{}.{}.Residual", Whole("output_blocks.{}.{}")),
            (
                "output_blocks.{}.{}.Attention",
                Whole("output_blocks.{}.{}"),
            ),
        ],
        heads: &[],
        ignored: &[],
    };
    let device = Device::flex();
    let made = GuidedUNetConfig::new(32, vec![1, 2], 1, vec![1]).init(&device);
    let config = serde_json::json!({
        "architecture": "guided-diffusion UNet, tiny",
        "image_size": 16, "in_channels": 1, "out_channels": 1, "model_channels": 32,
        "channel_mult": [1, 2], "num_res_blocks": 1, "attention_levels": [1],
        "num_head_channels": 32, "norm_groups": 32, "norm_eps": 1e-5,
        "sigma_min": 0.002, "sigma_max": 80.0, "sigma_data": 0.5,
        "resblock_updown": true, "use_scale_shift_norm": true, "use_new_attention_order": true,
    });
    let [from, to] = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let error = made.save(to.path()).unwrap_err().to_string();
    assert!(error.contains("made, not read"), "{error}");
    Format::new(config, NAMES).save(&made, from.path()).unwrap();
    let read = GuidedUNet::load(from.path(), &device).unwrap();
    read.save(to.path()).unwrap();
    let [given, expected] = [&to, &from].map(|folder| {
        let checkpoint = Checkpoint::open(folder.path()).unwrap();
        let config = checkpoint.config::<serde_json::Value>().unwrap();
        (config, checkpoint.weights().unwrap().data().unwrap())
    });
    assert_eq!(given, expected);
    let noisy = Tensor::<4>::ones([1, 1, 16, 16], &device);
    let drawn = |model: &GuidedUNet| {
        let [sigma, label] = [2.0, 0.5].map(|value| Tensor::from_data([value], &device));
        model.denoise(noisy.clone(), sigma, label).unwrap()
    };
    drawn(&read)
        .into_data()
        .assert_eq(&drawn(&made).into_data(), true);
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
    let runge_kutta = refusal(r#"{"_class_name": "PNDMScheduler"}"#);
    assert!(runge_kutta.contains("`skip_prk_steps` is false; accepted: true"));
    let other = refusal(r#"{"_class_name": "UniPCMultistepScheduler"}"#);
    assert!(
        other.contains("the scheduler UniPCMultistepScheduler"),
        "{other}"
    );
    assert!(other.contains("DDIMScheduler"), "{other}");
}

#[test]
fn a_folder_of_another_class_is_refused_with_the_class_that_is_read() {
    let refusal = UNet2DConditionModel::load(golden("vae_kl"), &Device::flex()).unwrap_err();
    let refusal = refusal.to_string();
    assert!(
        refusal.contains("the architecture AutoencoderKL"),
        "{refusal}"
    );
    assert!(refusal.contains("UNet2DConditionModel"), "{refusal}");
    assert!(AutoencoderKl::load(golden("dit"), &Device::flex()).is_err());
}

/// The largest difference of two images.
pub(super) fn difference(first: Tensor<4>, second: Tensor<4>) -> f32 {
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
