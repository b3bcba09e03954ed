use burn::tensor::{Device, Int, Tensor};

use super::{DigitImages, Metric, Mnist, Random, Task, mnist::SIDE};
use crate::models::diffusion::{
    Noise, Stages, UNet2DConfig, UNet2DModel,
    schedulers::{
        BetaSchedule, DdimConfig, NoiseSchedule, NoiseScheduleConfig, Prediction, Scheduler,
    },
};
use crate::ops::AttentionError;

/// Digits of a test batch.
const TEST_BATCH: usize = 100;

/// A small diffusion UNet learns to draw the digit that it is asked for.
#[derive(Debug, Clone)]
pub struct Drawing {
    mnist: Mnist,
    config: UNet2DConfig,
    schedule: NoiseSchedule,
    batch_size: usize,
    random: Random,
    device: Device,
}

impl Drawing {
    /// Batches of `batch_size` digits, noise and times, all of which follow from `seed`; data are
    /// put on `device`.
    pub fn new(mnist: Mnist, batch_size: usize, seed: u64, device: &Device) -> Self {
        let mut stages = Stages::new(vec![32, 64, 64], 1, vec![false, true, true]);
        stages.norm_groups = 8;
        Self {
            config: UNet2DConfig::new(1, 1, stages)
                .with_head_dim(Some(32))
                .with_classes(Some(10)),
            schedule: noise().init(),
            batch_size: batch_size.max(1),
            random: Random::new(seed),
            device: device.clone(),
            mnist,
        }
    }

    /// The model.
    pub fn model(&self) -> &UNet2DConfig {
        &self.config
    }

    /// Draws digits, `[digits, 1, 28, 28]` from -1 (black) to 1: the same for the same `seed`.
    ///
    /// # Errors
    ///
    /// [`AttentionError::Value`] for no steps or more than 1000.
    pub fn draw(
        model: &UNet2DModel,
        digits: &[u8],
        steps: usize,
        seed: u64,
    ) -> Result<Tensor<4>, AttentionError> {
        let device = model.conv_in.weight.device();
        let mut scheduler = DdimConfig::new()
            .with_noise(noise())
            .with_prediction(Prediction::Velocity)
            .try_init(steps)?;
        let mut noise = Noise::new(seed);
        let mut sample = noise.normal([digits.len(), 1, SIDE, SIDE], &device);
        for step in 0..scheduler.timesteps().len() {
            let times = Tensor::full([digits.len()], scheduler.timesteps()[step], &device);
            let classes = classes(digits, &device);
            let output = model.forward(sample.clone(), times, Some(classes));
            sample = scheduler.step(output, step, sample, &mut noise);
        }
        Ok(sample.clamp(-1.0, 1.0))
    }

    /// The mean squared error of what the model predicts of noisy digits.
    fn error(
        &self,
        model: &UNet2DModel,
        digits: &DigitImages,
        indices: &[usize],
        random: &mut Random,
        device: &Device,
    ) -> Tensor<1> {
        let clean = digits.signed_batch(indices, device);
        let times: Vec<f32> = indices
            .iter()
            .map(|_| random.below(self.schedule.times()) as f32)
            .collect();
        let mut numbers = Noise::new(random.bits());
        let noise = numbers.normal(clean.dims(), device);
        let mixed =
            |result: Result<Tensor<4>, _>| result.expect("invariant: a time for each digit");
        let noisy = mixed(
            self.schedule
                .add_noise(clean.clone(), noise.clone(), &times),
        );
        let wanted = mixed(self.schedule.velocity(clean, noise, &times));
        let times = Tensor::from_data(times.as_slice(), device);
        let classes = digits.labels(indices, device);
        let predicted = model.forward(noisy, times, Some(classes));
        (predicted - wanted).square().mean()
    }
}

/// The noise of training and of drawing.
fn noise() -> NoiseScheduleConfig {
    NoiseScheduleConfig::new().with_beta_schedule(BetaSchedule::SquaredCosine)
}

fn classes(digits: &[u8], device: &Device) -> Tensor<1, Int> {
    let classes: Vec<i32> = digits.iter().map(|digit| i32::from(*digit)).collect();
    Tensor::from_data(classes.as_slice(), device)
}

impl Task for Drawing {
    type Model = UNet2DModel;

    fn describe(&self) -> String {
        let (train, batch) = (self.mnist.train.len(), self.batch_size);
        let config = serde_json::to_string(&self.config).unwrap_or_default();
        format!("drawing, {train} digits to train on, batch {batch}, {config}")
    }

    fn init(&self, device: &Device) -> UNet2DModel {
        self.config.init(device)
    }

    fn loss(&self, model: &UNet2DModel, step: usize) -> Tensor<1> {
        let mut random = self.random.fork(step as u64);
        let train = &self.mnist.train;
        let indices: Vec<usize> = (0..self.batch_size)
            .map(|_| random.below(train.len()))
            .collect();
        let device = self.device.clone().autodiff();
        self.error(model, train, &indices, &mut random, &device)
    }

    /// Of the test digits, with noise that is the same every time.
    fn evaluate(&self, model: &UNet2DModel) -> Vec<Metric> {
        let test = &self.mnist.test;
        let mut random = self.random.fork(u64::MAX);
        let indices: Vec<usize> = (0..test.len()).collect();
        let sums = indices.chunks(TEST_BATCH).map(|indices| {
            let error = self.error(model, test, indices, &mut random, &self.device);
            error.into_scalar::<f32>() * indices.len() as f32
        });
        let error = sums.sum::<f32>() / test.len() as f32;
        vec![Metric::new("squared error", error)]
    }
}
