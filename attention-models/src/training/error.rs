use std::path::{Path, PathBuf};

use burn::tensor::TensorReadError;

/// Why a training run was refused or stopped.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrainingError {
    /// A file cannot be read or written.
    #[error("`{}`: {reason}", path.display())]
    File {
        /// The file or folder.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The data are not what they must be.
    #[error("`{}` cannot be trained on: {reason}", path.display())]
    Data {
        /// The file.
        path: PathBuf,
        /// What is wrong, and what is accepted.
        reason: String,
    },
    /// A number of the configuration makes no sense.
    #[error("`{argument}` is {given}; accepted: {accepted}")]
    Config {
        /// The field.
        argument: &'static str,
        /// What was given.
        given: String,
        /// What is accepted.
        accepted: String,
    },
    /// The folder holds a run with other settings.
    #[error(
        "`{}` holds another run ({found}); accepted: that run's settings ({given} were given), or \
         another folder",
        path.display()
    )]
    OtherRun {
        /// The checkpoint.
        path: PathBuf,
        /// The settings of the run in it.
        found: String,
        /// The settings that were asked for.
        given: String,
    },
    /// The device failed.
    #[error("the device failed: {reason}")]
    Device {
        /// What it said.
        reason: String,
    },
    /// The loss is no number any more.
    #[error(
        "the loss is {loss} at step {step}; accepted: a finite number (a lower learning rate?)"
    )]
    Diverged {
        /// The step.
        step: usize,
        /// Its loss.
        loss: f32,
    },
}

impl From<TensorReadError> for TrainingError {
    fn from(error: TensorReadError) -> Self {
        Self::Device {
            reason: error.to_string(),
        }
    }
}

impl TrainingError {
    pub(super) fn file(path: &Path, reason: impl ToString) -> Self {
        Self::File {
            path: path.to_path_buf(),
            reason: reason.to_string(),
        }
    }

    pub(super) fn data(path: &Path, reason: impl ToString) -> Self {
        Self::Data {
            path: path.to_path_buf(),
            reason: reason.to_string(),
        }
    }
}
