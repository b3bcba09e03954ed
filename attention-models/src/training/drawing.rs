use burn::tensor::{DType, Device, Int, Tensor};
use burn_train::metric::{LossInput, LossMetric};

use super::{DigitImages, Metric, Mnist, Random, Task, TrainingError, mnist::SIDE};
use crate::models::diffusion::{
    Noise, Stages, UNet2DConfig, UNet2DModel,
    schedulers::{
        BetaSchedule, DdimConfig, NoiseSchedule, NoiseScheduleConfig, Prediction, Scheduler,
    },
};
use crate::ops::AttentionError;

/// Digits of a test batch.
const TEST_BATCH: usize = 100;
/// The digits, and a digit of any kind.
const CLASSES: usize = 11;
const ANY: i32 = CLASSES as i32 - 1;
/// How often the model learns to draw any digit.
const DROPPED: f32 = 0.1;
/// Side of the squares of pixels that are the channels of the model's image.
const PATCH: usize = 2;
/// Side of the model's image.
const PLACES: usize = SIDE / PATCH;
const CHANNELS: usize = PATCH * PATCH;

/// How digits are drawn.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Hand {
    /// Steps from noise to a digit, at most 1000.
    pub steps: usize,
    /// How much what is asked for counts over any digit: 1 is what the model learned, more is clearer
    /// and less varied.
    pub guidance: f64,
    /// The noise follows from it.
    pub seed: u64,
}

impl Default for Hand {
    fn default() -> Self {
        Self {
            steps: 50,
            guidance: 2.0,
            seed: 42,
        }
    }
}

/// A small diffusion UNet learns to draw the digit that it is asked for, with guidance that needs no
/// classifier (Ho & Salimans 2022, <https://arxiv.org/abs/2207.12598>). Its image has a quarter of
/// the digit's pixels and four channels, squares of 2 by 2 pixels, as in Shi et al. 2016
/// (<https://arxiv.org/abs/1609.05158>): the same numbers at less work.
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
        let mut stages = Stages::new(vec![32, 48], 1, vec![true, true]);
        stages.norm_groups = 8;
        Self {
            config: UNet2DConfig::new(CHANNELS, CHANNELS, stages)
                .with_head_dim(Some(16))
                .with_classes(Some(CLASSES)),
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

    /// Draws digits, `[digits, 1, 28, 28]` from -1 (black) to 1: the same for the same `hand`.
    ///
    /// # Errors
    ///
    /// [`AttentionError::Value`] for no steps or more than 1000, something that is no digit, or a model
    /// of other channels or classes.
    pub fn draw(
        model: &UNet2DModel,
        digits: &[u8],
        hand: Hand,
    ) -> Result<Tensor<4>, AttentionError> {
        check(model.config(), digits)?;
        let device = model.conv_in.weight.device();
        let mut scheduler = DdimConfig::new()
            .with_noise(noise())
            .with_prediction(Prediction::Velocity)
            .with_clipped_noise(true)
            .try_init(hand.steps)?;
        let asked = digits.iter().map(|digit| i32::from(*digit));
        let any = digits.iter().map(|_| ANY);
        let classes: Vec<i32> = asked.chain(any).collect();
        let classes = Tensor::<1, Int>::from_data(classes.as_slice(), &device);
        let mut noise = Noise::new(hand.seed);
        let mut sample = noise.normal([digits.len(), CHANNELS, PLACES, PLACES], &device);
        for step in 0..scheduler.timesteps().len() {
            let times = Tensor::full([2 * digits.len()], scheduler.timesteps()[step], &device);
            let both = Tensor::cat(vec![sample.clone(); 2], 0);
            let output = model
                .forward(both, times, Some(classes.clone()))
                .cast(DType::F32);
            let [asked, any]: [Tensor<4>; 2] = output
                .chunk(2, 0)
                .try_into()
                .expect("invariant: two halves of an even number");
            let output = any.clone() + (asked - any) * hand.guidance;
            sample = scheduler.step(output, step, sample, &mut noise);
        }
        Ok(from_patches(sample).clamp(-1.0, 1.0))
    }

    /// The mean squared error of what the model predicts of each noisy digit, `[digits]`.
    fn errors(
        &self,
        model: &UNet2DModel,
        digits: &DigitImages,
        indices: &[usize],
        random: &mut Random,
        device: &Device,
    ) -> Tensor<1> {
        let clean = to_patches(digits.signed_batch(indices, device));
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
        let classes: Vec<i32> = indices
            .iter()
            .map(|index| {
                let dropped = random.uniform() < DROPPED;
                if dropped {
                    ANY
                } else {
                    digits.label(*index).into()
                }
            })
            .collect();
        let classes = Tensor::from_data(classes.as_slice(), device);
        let predicted = model.forward(noisy, times, Some(classes)).cast(DType::F32);
        let squares = (predicted - wanted).square();
        squares.flatten::<2>(1, 3).mean_dim(1).squeeze_dim(1)
    }
}

fn check(model: &UNet2DConfig, digits: &[u8]) -> Result<(), AttentionError> {
    let refuse = |argument, given: String, accepted: String| {
        Err(AttentionError::Value {
            argument,
            given,
            accepted,
        })
    };
    if [model.inputs, model.outputs] != [CHANNELS; 2] || model.classes != Some(CLASSES) {
        let (inputs, outputs, classes) = (model.inputs, model.outputs, model.classes);
        return refuse(
            "model",
            format!("{inputs} channels to {outputs}, classes {classes:?}"),
            format!("{CHANNELS} channels to {CHANNELS} and {CLASSES} classes"),
        );
    }
    match digits.iter().find(|digit| **digit > 9) {
        Some(digit) => refuse("digits", digit.to_string(), "0 to 9".into()),
        None if digits.is_empty() => refuse("digits", "none".into(), "at least one".into()),
        None => Ok(()),
    }
}

/// The noise of training and of drawing.
fn noise() -> NoiseScheduleConfig {
    NoiseScheduleConfig::new().with_beta_schedule(BetaSchedule::SquaredCosine)
}

/// `[digits, 1, 28, 28]` to `[digits, 4, 14, 14]`
fn to_patches(images: Tensor<4>) -> Tensor<4> {
    let digits = images.dims()[0];
    images
        .reshape([digits, PLACES, PATCH, PLACES, PATCH])
        .permute([0, 2, 4, 1, 3])
        .reshape([digits, CHANNELS, PLACES, PLACES])
}

/// `[digits, 4, 14, 14]` to `[digits, 1, 28, 28]`
fn from_patches(patches: Tensor<4>) -> Tensor<4> {
    let digits = patches.dims()[0];
    patches
        .reshape([digits, PATCH, PATCH, PLACES, PLACES])
        .permute([0, 3, 1, 4, 2])
        .reshape([digits, 1, SIDE, SIDE])
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
        self.errors(model, train, &indices, &mut random, &device)
            .mean()
    }

    /// Of the test digits, with noise that is the same every time.
    fn evaluate(&self, model: &UNet2DModel) -> Result<Vec<Metric>, TrainingError> {
        let test = &self.mnist.test;
        let mut random = self.random.fork(u64::MAX);
        let indices: Vec<usize> = (0..test.len()).collect();
        let batches = indices
            .chunks(TEST_BATCH)
            .map(|indices| self.errors(model, test, indices, &mut random, &self.device))
            .map(LossInput::new);
        let error = Metric::measured(LossMetric::new(), batches)?;
        Ok(vec![error.named("squared error")])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patches_are_squares_of_neighbours_and_become_the_image_again() {
        let device = Device::flex();
        let pixels = Tensor::<1, Int>::arange(0..2 * (SIDE * SIDE) as i64, &device).float();
        let images = pixels.reshape([2, 1, SIDE, SIDE]);
        let patches = to_patches(images.clone());
        let square = patches.clone().slice([1..2, 0..CHANNELS, 3..4, 5..6]);
        let first = (SIDE * SIDE + 6 * SIDE + 10) as f32;
        let side = SIDE as f32;
        let expected = [first, first + 1.0, first + side, first + side + 1.0];
        assert_eq!(
            square.into_data().try_into_vec_as::<f32>().unwrap(),
            expected
        );
        from_patches(patches)
            .into_data()
            .assert_eq(&images.into_data(), true);
    }
}
