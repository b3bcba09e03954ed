//! A Vision Transformer trained by burn-train's own loop: its metrics, its checkpoints, its progress.
//!
//! `cargo run --workspace --example burn_learner`
//!
//! The model learns in which of four rows of an image a bar lies.

use std::sync::Arc;

use attention_models::models::vit::{Head, VisionTransformer, VisionTransformerConfig};
use burn::{
    data::{
        dataloader::{DataLoader, DataLoaderBuilder, batcher::Batcher},
        dataset::InMemDataset,
    },
    module::Module,
    nn::loss::CrossEntropyLossConfig,
    optim::AdamWConfig,
    tensor::{Device, Int, Tensor, TensorData},
};
use burn_train::{
    ClassificationOutput, InferenceStep, Learner, SupervisedTraining, TrainOutput, TrainStep,
    metric::{AccuracyMetric, LossMetric},
};

const SIDE: usize = 16;
const ROWS: usize = 4;

/// Images `[batch, 1, SIDE, SIDE]`, and the row of each.
type Batch = (Tensor<4>, Tensor<1, Int>);

/// burn-train's traits belong to the program that trains.
#[derive(Module, Debug)]
struct Classifier {
    transformer: VisionTransformer,
}

impl Classifier {
    fn classify(&self, (images, rows): Batch) -> ClassificationOutput {
        let logits = self.transformer.forward(images).logits;
        let logits = logits.expect("invariant: the model has a head");
        let loss = CrossEntropyLossConfig::new().init(&logits.device());
        let loss = loss.forward(logits.clone(), rows.clone());
        ClassificationOutput::new(loss, logits, rows)
    }
}

impl TrainStep for Classifier {
    type Input = Batch;
    type Output = ClassificationOutput;

    fn step(&self, batch: Batch) -> TrainOutput<ClassificationOutput> {
        let output = self.classify(batch);
        TrainOutput::new(self, output.loss.backward(), output)
    }
}

impl InferenceStep for Classifier {
    type Input = Batch;
    type Output = ClassificationOutput;

    fn step(&self, batch: Batch) -> ClassificationOutput {
        self.classify(batch)
    }
}

/// Draws the bar that a number stands for.
struct Bars;

impl Batcher<usize, Batch> for Bars {
    fn batch(&self, items: Vec<usize>, device: &Device) -> Batch {
        let rows: Vec<i32> = items.iter().map(|item| (item % ROWS) as i32).collect();
        let pixels = items.iter().flat_map(|item| {
            let row = SIDE / ROWS * (item % ROWS) + item / ROWS % (SIDE / ROWS);
            (0..SIDE * SIDE).map(move |at| f32::from(u8::from(at / SIDE == row)))
        });
        let shape = [items.len(), 1, SIDE, SIDE];
        let pixels = TensorData::new(pixels.collect::<Vec<_>>(), shape);
        (
            Tensor::from_data(pixels, device),
            Tensor::from_data(rows.as_slice(), device),
        )
    }
}

fn bars(count: usize, device: &Device) -> Arc<dyn DataLoader<Batch>> {
    DataLoaderBuilder::new(Bars)
        .batch_size(16)
        .shuffle(7)
        .set_device(device.clone())
        .build(InMemDataset::new((0..count).collect()))
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let device = Device::flex();
    let training = device.clone().autodiff();
    training.seed(42);
    let head = Head::ClassToken {
        outputs: ROWS,
        bias: true,
    };
    let transformer = VisionTransformerConfig::new(SIDE, 4, 32, 2, 2, 64)
        .with_channels(1)
        .with_head(head)
        .init(&training);
    let folder = tempfile::tempdir()?;
    let learner = Learner::new(Classifier { transformer }, AdamWConfig::new().init(), 1e-2);
    let result = SupervisedTraining::new(folder.path(), bars(256, &training), bars(64, &device))
        .metrics((AccuracyMetric::new(), LossMetric::new()))
        .with_default_checkpointers()
        .num_epochs(6)
        .launch(learner);
    if let Some(error) = result.error {
        return Err(error.to_string().into());
    }
    let (images, rows) = Bars.batch((0..ROWS * ROWS).collect(), &device);
    let logits = result.model.transformer.forward(images).logits;
    let answers = logits.ok_or("the model has no head")?.argmax(1);
    let right = answers.squeeze_dim::<1>(1).equal(rows).int().sum();
    println!(
        "{} of {} bars are found",
        right.into_scalar::<i32>(),
        ROWS * ROWS
    );
    // A folder that transformers reads as well.
    result.model.transformer.save(folder.path().join("model"))?;
    Ok(())
}
