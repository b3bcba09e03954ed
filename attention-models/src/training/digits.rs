use std::path::Path;

use burn::nn::loss::CrossEntropyLossConfig;
use burn::tensor::{DType, Device, Tensor};
use burn_train::metric::{AccuracyInput, AccuracyMetric};
use serde_json::json;

use super::mnist::{DEVIATION, MEAN, SIDE};
use super::{Batches, Metric, Mnist, Random, Task, TrainingError};
use crate::models::vit::{Head, VisionTransformer, VisionTransformerConfig};

/// Digits of a test batch.
const TEST_BATCH: usize = 250;
const HEAD: Head = Head::ClassToken {
    outputs: 10,
    bias: true,
};

/// A small Vision Transformer learns to read MNIST's digits.
#[derive(Debug, Clone)]
pub struct Digits {
    mnist: Mnist,
    config: VisionTransformerConfig,
    batch_size: usize,
    batches: Batches,
    random: Random,
    device: Device,
}

impl Digits {
    /// Batches of `batch_size`, in an order that follows from `seed`; data are put on `device`.
    pub fn new(mnist: Mnist, batch_size: usize, seed: u64, device: &Device) -> Self {
        let config = VisionTransformerConfig::new(SIDE, 4, 64, 4, 4, 128)
            .with_channels(1)
            .with_head(HEAD);
        Self {
            batches: Batches::new(mnist.train.len(), batch_size, seed),
            batch_size,
            mnist,
            config,
            random: Random::new(seed),
            device: device.clone(),
        }
    }

    /// A model of other sizes, for images of one channel and ten labels.
    pub fn with_model(mut self, config: VisionTransformerConfig) -> Self {
        self.config = config.with_channels(1).with_head(HEAD);
        self
    }

    /// Writes a trained model as a folder that transformers reads, with what happens to an image
    /// before it.
    ///
    /// # Errors
    ///
    /// [`TrainingError::File`] for a folder that cannot be written.
    pub fn save(&self, model: &VisionTransformer, folder: &Path) -> Result<(), TrainingError> {
        let refuse = |reason: String| TrainingError::file(folder, reason);
        model
            .save(folder)
            .map_err(|error| refuse(error.to_string()))?;
        let preprocessor = json!({
            "image_processor_type": "ViTImageProcessor",
            "do_resize": true,
            "size": { "height": SIDE, "width": SIDE },
            "resample": 2,
            "do_center_crop": false,
            "do_rescale": true,
            "rescale_factor": 1.0 / 255.0,
            "do_normalize": true,
            "image_mean": [MEAN],
            "image_std": [DEVIATION],
        });
        let path = folder.join("preprocessor_config.json");
        std::fs::write(path, format!("{preprocessor:#}\n"))
            .map_err(|error| refuse(error.to_string()))
    }

    /// What a trained model reads in `images` `[digits, 1, 28, 28]` from -1 (black) to 1, as
    /// [`Drawing::draw`](super::Drawing::draw) draws them.
    pub fn read(model: &VisionTransformer, images: Tensor<4>) -> Vec<u8> {
        let bytes = (images + 1.0) / 2.0;
        let answers = logits(model, (bytes - MEAN) / DEVIATION)
            .argmax(1)
            .into_data();
        answers.iter::<i64>().map(|answer| answer as u8).collect()
    }

    /// The model.
    pub fn model(&self) -> &VisionTransformerConfig {
        &self.config
    }

    /// Steps until every digit had its turn.
    pub fn steps_per_epoch(&self) -> usize {
        self.batches.per_epoch()
    }
}

impl Task for Digits {
    type Model = VisionTransformer;

    fn describe(&self) -> String {
        let (train, test) = (self.mnist.train.len(), self.mnist.test.len());
        let batch = self.batch_size;
        let config = serde_json::to_string(&self.config).unwrap_or_default();
        format!("digits, {train} to train on, {test} to test, batch {batch}, {config}")
    }

    fn init(&self, device: &Device) -> VisionTransformer {
        self.config.init(device)
    }

    fn loss(&self, model: &VisionTransformer, step: usize) -> Tensor<1> {
        let indices = self.batches.of(step);
        let mut random = self.random.fork(step as u64);
        let device = self.device.clone().autodiff();
        let images = self
            .mnist
            .train
            .distorted_batch(&indices, &mut random, &device);
        let labels = self.mnist.train.labels(&indices, &device);
        let loss = CrossEntropyLossConfig::new().with_smoothing(Some(0.1));
        loss.init(&device).forward(logits(model, images), labels)
    }

    /// Of the test digits.
    fn evaluate(&self, model: &VisionTransformer) -> Result<Vec<Metric>, TrainingError> {
        let test = &self.mnist.test;
        let indices: Vec<usize> = (0..test.len()).collect();
        let batches = indices.chunks(TEST_BATCH).map(|indices| {
            let logits = logits(model, test.batch(indices, &self.device));
            AccuracyInput::new(logits, test.labels(indices, &self.device))
        });
        Ok(vec![Metric::measured(AccuracyMetric::new(), batches)?])
    }
}

fn logits(model: &VisionTransformer, images: Tensor<4>) -> Tensor<2> {
    let output = model.forward(images);
    output
        .logits
        .expect("invariant: the task's model has a head")
        .cast(DType::F32)
}
