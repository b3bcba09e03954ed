use std::path::{Path, PathBuf};

use burn::module::{Module, ModuleVisitor, Param};
use burn::optim::GradientsParams;
use burn::tensor::{Device, FloatDType, Tensor};

use super::checkpoint::{self, Progress, Saved};
use super::{Metric, Task, TrainingConfig, TrainingError, precision};
use crate::models::cast;

/// What happens during a run.
#[derive(Debug, Clone, PartialEq)]
pub enum Event<'a> {
    /// A checkpoint was found; so many steps are done.
    Resumed(usize),
    /// A step was made.
    Step {
        /// Steps that are done.
        step: usize,
        /// The loss, averaged over the last steps.
        loss: f32,
        /// At which rate it learned.
        learning_rate: f64,
    },
    /// The model was evaluated after so many steps.
    Evaluated(usize, &'a [Metric]),
    /// A checkpoint was written after so many steps.
    Saved(usize),
}

/// What a finished run leaves.
#[derive(Debug, Clone)]
pub struct Outcome<M> {
    /// The trained model; it passes no gradient.
    pub model: M,
    /// What it can do.
    pub metrics: Vec<Metric>,
    /// All evaluations, with the steps that were done.
    pub history: Vec<(usize, Vec<Metric>)>,
}

/// Trains a [`Task`]'s model, with checkpoints in a folder.
#[derive(Debug, Clone)]
pub struct Trainer {
    config: TrainingConfig,
    folder: PathBuf,
    device: Device,
}

impl Trainer {
    /// A run in `folder`, which need not exist.
    pub fn new(config: TrainingConfig, folder: &Path, device: &Device) -> Self {
        Self {
            config,
            folder: folder.to_path_buf(),
            device: device.clone(),
        }
    }

    /// How long and how fast.
    pub fn config(&self) -> &TrainingConfig {
        &self.config
    }

    /// Trains from where the folder's newest checkpoint ends, or from the start, and tells
    /// `observer` what happens.
    ///
    /// A run that was killed and one that was not end with the same bits: steps since the last
    /// checkpoint are made again, exactly as they were.
    ///
    /// # Errors
    ///
    /// [`TrainingError::Config`] for numbers that make no sense, [`TrainingError::OtherRun`] for a
    /// folder with a run of other settings, [`TrainingError::File`] for a checkpoint that cannot be
    /// read or written, [`TrainingError::Device`] for a device that fails,
    /// [`TrainingError::Diverged`] for a loss that is no number.
    pub fn run<T: Task>(
        &self,
        task: &T,
        observer: &mut dyn FnMut(Event<'_>),
    ) -> Result<Outcome<T::Model>, TrainingError> {
        self.config.validate()?;
        let device = self.device.clone().autodiff();
        device.seed(self.config.seed);
        let mut model = task.init(&device);
        model.visit(&mut Draw);
        let mut optimizer = self.config.optimizer();
        let mut schedule = self.config.schedule();
        let mut progress = Progress {
            task: task.describe(),
            config: self.config.clone(),
            step: 0,
            mean_loss: None,
            history: Vec::new(),
        };
        if let Some(saved) = checkpoint::load(&self.folder)? {
            self.check_same_run(&saved, &progress)?;
            model = self.restored(model, saved.model)?;
            optimizer = optimizer.load_record(saved.optimizer);
            schedule = schedule.load_record(saved.schedule);
            progress = saved.progress;
            observer(Event::Resumed(progress.step));
        }
        while progress.step < self.config.steps {
            let rate = schedule.step();
            let learning_rate = rate.base();
            let (loss, gradients) = self.gradients(task, &model, progress.step)?;
            model = optimizer.step(rate, model, gradients);
            progress.count(loss);
            observer(Event::Step {
                step: progress.step,
                loss: progress.mean_loss.unwrap_or(loss),
                learning_rate,
            });
            let step = progress.step;
            let last = step == self.config.steps;
            if last || step.is_multiple_of(self.config.evaluate_every) {
                let metrics = task.evaluate(&model.valid())?;
                observer(Event::Evaluated(step, &metrics));
                progress.history.push((step, metrics));
            }
            if last || step.is_multiple_of(self.config.checkpoint_every) {
                let (optimizer, schedule) = (optimizer.to_record(), schedule.to_record());
                let model = model.clone();
                checkpoint::save(&self.folder, model, optimizer, schedule, &progress)?;
                observer(Event::Saved(step));
            }
        }
        let history = progress.history;
        Ok(Outcome {
            model: model.valid(),
            metrics: history
                .last()
                .map(|(_, metrics)| metrics.clone())
                .unwrap_or_default(),
            history,
        })
    }

    /// The loss of a step's batch, and what it asks of each parameter.
    fn gradients<T: Task>(
        &self,
        task: &T,
        model: &T::Model,
        step: usize,
    ) -> Result<(f32, GradientsParams), TrainingError> {
        let copy;
        let model = match self.config.dtype {
            FloatDType::F32 => model,
            dtype => {
                copy = cast(model.clone(), dtype);
                &copy
            }
        };
        let loss = task.loss(model, step);
        let value = loss.clone().try_into_scalar::<f32>()?;
        if !value.is_finite() {
            return Err(TrainingError::Diverged { step, loss: value });
        }
        let gradients = GradientsParams::from_grads(loss.backward(), model);
        Ok((value, precision::widened(gradients, model)))
    }

    fn check_same_run(&self, saved: &Saved, asked: &Progress) -> Result<(), TrainingError> {
        let settings = |progress: &Progress| {
            let config = serde_json::to_string(&progress.config).unwrap_or_default();
            format!("{}, {config}", progress.task)
        };
        let (found, given) = (settings(&saved.progress), settings(asked));
        if found == given {
            return Ok(());
        }
        Err(TrainingError::OtherRun {
            path: self.folder.clone(),
            found,
            given,
        })
    }

    fn restored<M: Module>(
        &self,
        model: M,
        record: burn::store::ModuleRecord,
    ) -> Result<M, TrainingError> {
        model
            .try_load_record(record)
            .map_err(|error| TrainingError::file(&self.folder, error))
    }
}

/// Draws parameters in the order of the module, not of their first use.
struct Draw;

impl ModuleVisitor for Draw {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        param.val();
    }
}

impl Progress {
    fn count(&mut self, loss: f32) {
        self.step += 1;
        self.mean_loss = Some(match self.mean_loss {
            Some(mean) => mean + (loss - mean) / 20.0,
            None => loss,
        });
    }
}
