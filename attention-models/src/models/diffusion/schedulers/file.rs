//! diffusers' `scheduler_config.json`.

use std::path::Path;

use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;

use super::{
    BetaSchedule, Clip, DdimConfig, DdpmConfig, DpmSolverConfig, EulerConfig, FinalSigma,
    NoiseScheduleConfig, PndmConfig, Prediction, SchedulerConfig, SolverType, Spacing,
    TimestepSpacing, Variance,
};
use crate::models::checkpoint::CheckpointError;
use crate::models::diffusion::folder::{Offered, offered};

/// The schedulers that are known, by diffusers' names.
const CLASSES: [&str; 5] = [
    "DDPMScheduler",
    "DDIMScheduler",
    "EulerDiscreteScheduler",
    "DPMSolverMultistepScheduler",
    "PNDMScheduler",
];

/// Options of which nothing else is offered, whatever the scheduler.
const OFFERED: [Offered; 16] = [
    offered("trained_betas", &[]),
    offered(
        "beta_schedule",
        &["\"linear\"", "\"scaled_linear\"", "\"squaredcos_cap_v2\""],
    ),
    offered(
        "prediction_type",
        &["\"epsilon\"", "\"v_prediction\"", "\"sample\""],
    ),
    offered("interpolation_type", &["\"linear\""]),
    offered("timestep_type", &["\"discrete\""]),
    offered("sigma_min", &[]),
    offered("sigma_max", &[]),
    offered("use_exponential_sigmas", &["false"]),
    offered("use_beta_sigmas", &["false"]),
    offered("use_flow_sigmas", &["false"]),
    offered("use_lu_lambdas", &["false"]),
    offered("use_dynamic_shifting", &["false"]),
    offered("algorithm_type", &["\"dpmsolver++\""]),
    offered("solver_order", &["1", "2"]),
    offered("solver_type", &["\"midpoint\"", "\"heun\""]),
    offered("variance_type", &["\"fixed_small\"", "\"fixed_large\""]),
];

/// The fields that are read; the schedulers' defaults differ, so that absent ones are left to them.
#[derive(Debug, Deserialize)]
struct SchedulerFile {
    num_train_timesteps: Option<usize>,
    beta_start: Option<f64>,
    beta_end: Option<f64>,
    beta_schedule: Option<BetaSchedule>,
    rescale_betas_zero_snr: Option<bool>,
    prediction_type: Option<Prediction>,
    timestep_spacing: Option<TimestepSpacing>,
    steps_offset: Option<usize>,
    clip_sample: Option<bool>,
    clip_sample_range: Option<f64>,
    thresholding: Option<bool>,
    dynamic_thresholding_ratio: Option<f64>,
    sample_max_value: Option<f64>,
    set_alpha_to_one: Option<bool>,
    variance_type: Option<Variance>,
    use_karras_sigmas: Option<bool>,
    final_sigmas_type: Option<FinalSigma>,
    solver_order: Option<usize>,
    solver_type: Option<SolverType>,
    lower_order_final: Option<bool>,
    euler_at_final: Option<bool>,
    lambda_min_clipped: Option<f64>,
}

pub(super) fn load(folder: &Path) -> Result<SchedulerConfig, CheckpointError> {
    let path = folder.join("scheduler_config.json");
    let text = std::fs::read_to_string(&path).map_err(|error| CheckpointError::Unreadable {
        path: path.clone(),
        reason: error.to_string(),
    })?;
    let invalid = |reason: String| CheckpointError::Config {
        path: path.clone(),
        reason,
    };
    let options: Value = parse(&text).map_err(&invalid)?;
    let class = options["_class_name"].as_str().unwrap_or("no class");
    if !CLASSES.contains(&class) {
        return Err(CheckpointError::Architecture {
            path: path.clone(),
            found: format!("the scheduler {class}"),
            accepted: CLASSES.to_vec(),
        });
    }
    for option in &OFFERED {
        option.check(&options).map_err(&invalid)?;
    }
    // Absent, it is false.
    if class == "PNDMScheduler" && options["skip_prk_steps"] != true {
        return Err(invalid("`skip_prk_steps` is false; accepted: true".into()));
    }
    let file: SchedulerFile = parse(&text).map_err(&invalid)?;
    Ok(file.config(class))
}

/// Python writes infinities into JSON, where they do not exist; absent, they mean the same.
fn parse<T: DeserializeOwned>(text: &str) -> Result<T, String> {
    let text = text
        .replace(": -Infinity", ": null")
        .replace(": Infinity", ": null");
    serde_json::from_str(&text).map_err(|error| error.to_string())
}

impl SchedulerFile {
    fn config(self, class: &str) -> SchedulerConfig {
        let prediction = self.prediction_type.unwrap_or_default();
        let karras = self.use_karras_sigmas.unwrap_or(false);
        let final_sigma = self.final_sigmas_type.unwrap_or_default();
        match class {
            "DDPMScheduler" => SchedulerConfig::Ddpm(
                DdpmConfig::new()
                    .with_noise(self.noise())
                    .with_spacing(self.spacing(TimestepSpacing::Leading))
                    .with_prediction(prediction)
                    .with_variance(self.variance_type.unwrap_or_default())
                    .with_clip(self.clip(true)),
            ),
            "DDIMScheduler" => SchedulerConfig::Ddim(
                DdimConfig::new()
                    .with_noise(self.noise())
                    .with_spacing(self.spacing(TimestepSpacing::Leading))
                    .with_prediction(prediction)
                    .with_clip(self.clip(true))
                    .with_set_alpha_to_one(self.set_alpha_to_one.unwrap_or(true)),
            ),
            "EulerDiscreteScheduler" => SchedulerConfig::Euler(
                EulerConfig::new()
                    .with_noise(self.noise())
                    .with_spacing(self.spacing(TimestepSpacing::Linspace))
                    .with_prediction(prediction)
                    .with_karras(karras)
                    .with_final_sigma(final_sigma),
            ),
            "PNDMScheduler" => SchedulerConfig::Pndm(
                PndmConfig::new()
                    .with_noise(self.noise())
                    .with_spacing(self.spacing(TimestepSpacing::Leading))
                    .with_prediction(prediction)
                    .with_set_alpha_to_one(self.set_alpha_to_one.unwrap_or(false)),
            ),
            _ => SchedulerConfig::DpmSolver(
                DpmSolverConfig::new()
                    .with_noise(self.noise())
                    .with_spacing(self.spacing(TimestepSpacing::Linspace))
                    .with_prediction(prediction)
                    .with_karras(karras)
                    .with_final_sigma(final_sigma)
                    .with_clip(self.clip(false))
                    .with_order(self.solver_order.unwrap_or(2))
                    .with_solver(self.solver_type.unwrap_or_default())
                    .with_lower_order_final(self.lower_order_final.unwrap_or(true))
                    .with_euler_at_final(self.euler_at_final.unwrap_or(false))
                    .with_smallest_lambda(self.lambda_min_clipped.unwrap_or(f64::NEG_INFINITY)),
            ),
        }
    }

    fn noise(&self) -> NoiseScheduleConfig {
        let default = NoiseScheduleConfig::new();
        NoiseScheduleConfig {
            times: self.num_train_timesteps.unwrap_or(default.times),
            beta_start: self.beta_start.unwrap_or(default.beta_start),
            beta_end: self.beta_end.unwrap_or(default.beta_end),
            beta_schedule: self.beta_schedule.unwrap_or_default(),
            zero_terminal_snr: self.rescale_betas_zero_snr.unwrap_or(false),
        }
    }

    fn spacing(&self, default: TimestepSpacing) -> Spacing {
        let kind = self.timestep_spacing.unwrap_or(default);
        Spacing::new(kind, self.steps_offset.unwrap_or(0))
    }

    fn clip(&self, default: bool) -> Clip {
        if self.thresholding.unwrap_or(false) {
            Clip::Dynamic {
                quantile: self.dynamic_thresholding_ratio.unwrap_or(0.995),
                largest: self.sample_max_value.unwrap_or(1.0),
            }
        } else if self.clip_sample.unwrap_or(default) {
            Clip::At(self.clip_sample_range.unwrap_or(1.0))
        } else {
            Clip::None
        }
    }
}
