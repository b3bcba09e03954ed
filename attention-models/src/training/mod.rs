//! Training the reference models: a small loop around Burn's optimiser and schedules and burn-train's
//! metrics and checkpoints that can be killed at any moment. burn-train's own loop, `Learner`, takes
//! these models as well; it goes on from the last whole epoch, this one from the last checkpoint
//! within an epoch, with the same bits.
//!
//! What a run does is a function of its seed and of the number of a step: which examples a batch
//! holds, how they are distorted, where noise falls. A checkpoint therefore holds parameters,
//! moments, schedule and the number of steps, and a run that was killed goes on to the same bits as
//! one that was not.
//!
//! A [`Task`] says what is trained and on what; [`Trainer`] does it.
//!
//! ```
//! use attention_models::training::{Metric, Task, Trainer, TrainingConfig, TrainingError};
//! use burn::nn::{Linear, LinearConfig};
//! use burn::tensor::{Device, Tensor};
//!
//! /// Learns to double a number.
//! struct Doubling;
//!
//! impl Task for Doubling {
//!     type Model = Linear;
//!
//!     fn describe(&self) -> String {
//!         "doubling".into()
//!     }
//!
//!     fn init(&self, device: &Device) -> Linear {
//!         LinearConfig::new(1, 1).init(device)
//!     }
//!
//!     fn loss(&self, model: &Linear, step: usize) -> Tensor<1> {
//!         let number = Tensor::<2>::full([1, 1], (step % 7) as f32, &model.weight.device());
//!         let error = model.forward(number.clone()) - number.mul_scalar(2.0);
//!         error.square().mean()
//!     }
//!
//!     fn evaluate(&self, model: &Linear) -> Result<Vec<Metric>, TrainingError> {
//!         let doubled = model.forward(Tensor::<2>::ones([1, 1], &model.weight.device()));
//!         Ok(vec![Metric::new("of one", doubled.try_into_scalar::<f64>()?)])
//!     }
//! }
//!
//! let folder = tempfile::tempdir().unwrap();
//! let config = TrainingConfig::new(1000).with_learning_rate(0.05);
//! let trainer = Trainer::new(config, folder.path(), &Device::flex());
//! let outcome = trainer.run(&Doubling, &mut |_| {})?;
//! assert!((outcome.metrics[0].value - 2.0).abs() < 0.1);
//! # Ok::<(), attention_models::training::TrainingError>(())
//! ```

mod batches;
mod characters;
mod checkpoint;
mod config;
mod digits;
mod drawing;
mod error;
mod metric;
mod mnist;
mod precision;
mod random;
mod text;
mod trainer;

pub use batches::Batches;
pub use characters::Characters;
pub use config::TrainingConfig;
pub use digits::Digits;
pub use drawing::{Drawing, Hand};
pub use error::TrainingError;
pub use metric::Metric;
pub use mnist::{DigitImages, Mnist};
pub use random::Random;
pub use text::Text;
pub use trainer::{Event, Outcome, Trainer};

use burn::module::Module;
use burn::tensor::{Device, Tensor};

/// What is trained, and on what.
pub trait Task {
    /// The model.
    type Model: Module;

    /// Everything that decides about the result beside the [`TrainingConfig`]: a checkpoint of a
    /// task with another description is refused.
    fn describe(&self) -> String;

    /// The model before the first step; random numbers come from the device, which was seeded.
    fn init(&self, device: &Device) -> Self::Model;

    /// The mean loss of a step's batch. It must depend on nothing but the model and the step.
    fn loss(&self, model: &Self::Model, step: usize) -> Tensor<1>;

    /// What the model can do on data that it is not trained on, by burn-train's metrics
    /// ([`Metric::measured`]) or others; the model passes no gradient.
    ///
    /// # Errors
    ///
    /// [`TrainingError::Device`] for a tensor that cannot be read.
    fn evaluate(&self, model: &Self::Model) -> Result<Vec<Metric>, TrainingError>;
}
