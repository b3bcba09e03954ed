//! Diffusion: UNets, the diffusion transformer, the autoencoder, schedulers, Stable Diffusion.

use std::path::Path;

use anyhow::{Context, Result, bail};
use burn::tensor::{DType, Device, Int, Tensor, TensorData};

use super::{Group, Values};
use crate::models::diffusion::{
    AutoencoderKl, DiT, Noise, Plain, UNet2DConditionModel, UNet2DModel,
    guided::GuidedUNet,
    pipeline::{Guidance, SamplingConfig, StableDiffusion},
    schedulers::SchedulerConfig,
};
use crate::models::encoder::EncoderInput;

pub(super) const GROUP: Group = Group {
    names: &[
        "unet2d_condition",
        "unet2d_attn",
        "dit",
        "vae_kl",
        "sched_ddpm",
        "sched_ddpm_cosine",
        "sched_ddim",
        "sched_euler",
        "sched_dpmpp",
        "sched_pndm",
        "stable_diffusion",
        "terrain",
    ],
    compute,
};

/// The seed from which the generator of the goldens draws the noise of steps.
const STEP_SEED: u64 = 1234 + 9;
/// Steps of the schedulers' goldens.
const STEPS: usize = 10;

/// The inputs of a golden on a device.
struct Inputs<'a> {
    values: &'a Values,
    device: &'a Device,
}

impl Inputs<'_> {
    fn data(&self, name: &str) -> Result<TensorData> {
        let data = self.values.get(name).cloned();
        data.with_context(|| format!("the golden has no input `{name}`"))
    }

    fn float<const D: usize>(&self, name: &str) -> Result<Tensor<D>> {
        let data = self.data(name)?.convert_dtype(DType::F32);
        Ok(Tensor::from_data(data, self.device))
    }

    fn whole(&self, name: &str) -> Result<Tensor<1, Int>> {
        let data = self.data(name)?.convert_dtype(DType::I32);
        Ok(Tensor::from_data(data, self.device))
    }

    fn numbers(&self, name: &str) -> Result<Vec<f32>> {
        let data = self.data(name)?.convert_dtype(DType::F32);
        Ok(data.try_to_vec::<f32>()?)
    }
}

/// The class of the golden tells what it is.
fn compute(folder: &Path, values: &Values, _: &[&str], device: &Device) -> Result<Values> {
    let inputs = Inputs { values, device };
    let one = |name: &str, tensor: Tensor<4>| Values::from([(name.to_string(), tensor.to_data())]);
    if folder.join("scheduler_config.json").is_file() {
        return schedule(folder, &inputs);
    }
    if values.contains_key("prompt_ids") {
        return imagine(&StableDiffusion::load(folder, device)?, &inputs);
    }
    if values.contains_key("noisy") {
        let model = GuidedUNet::load(folder, device)?;
        let labels = inputs.float("difficulty")?;
        let image = model.denoise(inputs.float("noisy")?, inputs.float("sigma")?, labels)?;
        return Ok(one("denoised", image));
    }
    if values.contains_key("x") {
        return autoencode(&AutoencoderKl::load(folder, device)?, &inputs);
    }
    if values.contains_key("encoder_hidden_states") {
        let model = UNet2DConditionModel::load(folder, device)?;
        let sample = model.forward(
            inputs.float("sample")?,
            inputs.float("timestep")?,
            inputs.float("encoder_hidden_states")?,
        );
        return Ok(one("sample", sample));
    }
    if values.contains_key("class_labels") {
        let model = DiT::load(folder, device)?;
        let sample = model.forward(
            inputs.float("hidden_states")?,
            inputs.float("timestep")?,
            inputs.whole("class_labels")?,
        );
        return Ok(one("sample", sample));
    }
    if values.contains_key("sample") {
        let model = UNet2DModel::load(folder, device)?;
        let sample = model.forward(inputs.float("sample")?, inputs.float("timestep")?, None);
        return Ok(one("sample", sample));
    }
    bail!(
        "the inputs {:?} are of no golden of diffusion",
        values.keys()
    )
}

fn autoencode(model: &AutoencoderKl, inputs: &Inputs) -> Result<Values> {
    let posterior = model.encode(inputs.float("x")?);
    let decoded = model.decode(posterior.mean.clone());
    let outputs = [
        ("mean", posterior.mean),
        ("logvar", posterior.log_variance),
        ("decoded", decoded),
    ];
    let outputs = outputs.map(|(name, tensor)| (name.to_string(), tensor.to_data()));
    Ok(Values::from(outputs))
}

/// The golden's picture: five steps, moved away from the empty prompt by five.
fn imagine(model: &StableDiffusion, inputs: &Inputs) -> Result<Values> {
    let embed = |name: &str| -> Result<Tensor<3>> {
        let ids = inputs.data(name)?.convert_dtype(DType::I32);
        let ids = Tensor::<2, Int>::from_data(ids, inputs.device);
        let output = model.text_encoder.try_forward(EncoderInput::new(ids))?;
        Ok(output.last_hidden_state)
    };
    let guidance = Guidance {
        text: embed("prompt_ids")?,
        negative: embed("uncond_ids")?,
    };
    let sampling = SamplingConfig::new().with_steps(5).with_guidance(5.0);
    let mut steps = Vec::new();
    let latents = model.latent.sample(
        inputs.float("latents")?,
        &guidance,
        &sampling,
        &mut Plain,
        &mut Noise::new(0),
        |_, latents| steps.push(latents.clone()),
    )?;
    Ok(Values::from([
        ("prompt_embeds".to_string(), guidance.text.to_data()),
        ("uncond_embeds".to_string(), guidance.negative.to_data()),
        (
            "latents_steps".to_string(),
            Tensor::stack::<5>(steps, 0).to_data(),
        ),
        ("image".to_string(), model.latent.decode(latents)?.to_data()),
    ]))
}

/// A scheduler's steps under a stand-in for a model: `tanh(x) * (0.5 + t / 2000)`.
fn schedule(folder: &Path, inputs: &Inputs) -> Result<Values> {
    let config = SchedulerConfig::load(folder)?;
    let mut scheduler = config.try_init(STEPS)?;
    let timesteps = scheduler.timesteps().to_vec();
    let mut noise = Noise::new(STEP_SEED);
    let start = inputs.float::<4>("noise0")?;
    let mut samples = vec![start.mul_scalar(scheduler.initial_sigma())];
    let mut seen = Vec::new();
    for (step, time) in timesteps.iter().enumerate() {
        let sample = samples[step].clone();
        let input = scheduler.model_input(sample.clone(), step);
        let output = input
            .clone()
            .tanh()
            .mul_scalar(0.5 + f64::from(*time) / 2000.0);
        samples.push(scheduler.step(output, step, sample, &mut noise));
        seen.push(input);
    }
    let (clean, added) = (inputs.float("clean")?, inputs.float("noise")?);
    let noisy = scheduler.add_noise(clean, added, &inputs.numbers("add_noise_timesteps")?)?;

    let list = |numbers: &[f64]| {
        let numbers: Vec<f32> = numbers.iter().map(|number| *number as f32).collect();
        let length = numbers.len();
        TensorData::new(numbers, [length])
    };
    let initial = TensorData::new(vec![scheduler.initial_sigma() as f32], Vec::<usize>::new());
    let products = config.noise().init().alphas_cumprod;
    let mut outputs = vec![
        (
            "timesteps",
            TensorData::new(timesteps.clone(), [timesteps.len()]),
        ),
        ("samples", Tensor::stack::<5>(samples, 0).to_data()),
        ("model_inputs", Tensor::stack::<5>(seen, 0).to_data()),
        ("init_noise_sigma", initial),
        ("alphas_cumprod", list(&products)),
        ("add_noise", noisy.to_data()),
    ];
    let sigmas = match &config {
        SchedulerConfig::Euler(config) => Some(config.try_init(STEPS)?.sigmas().to_vec()),
        SchedulerConfig::DpmSolver(config) => Some(config.try_init(STEPS)?.sigmas().to_vec()),
        _ => None,
    };
    outputs.extend(sigmas.map(|sigmas| ("sigmas", list(&sigmas))));
    let outputs = outputs.into_iter();
    Ok(outputs
        .map(|(name, data)| (name.to_string(), data))
        .collect())
}
