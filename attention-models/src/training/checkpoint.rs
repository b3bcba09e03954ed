//! A run on disk: a folder `step-N` for the newest steps, written whole or not at all.

use std::{
    fs,
    path::{Path, PathBuf},
};

use burn::lr_scheduler::LrSchedulerRecord;
use burn::module::Module;
use burn::optim::OptimizerRecord;
use burn::store::ModuleRecord;
use burn_train::checkpoint::{Checkpointer, FileCheckpointer};
use serde::{Deserialize, Serialize};

use super::{Metric, TrainingConfig, TrainingError};

const PREFIX: &str = "step-";
const PARTIAL: &str = ".partial";
const MODEL: &str = "model";
const OPTIMIZER: &str = "optimizer";
const SCHEDULE: &str = "schedule";
const PROGRESS: &str = "progress.json";

/// How far a run is, and what it is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Progress {
    pub task: String,
    pub config: TrainingConfig,
    /// Steps that are done.
    pub step: usize,
    /// Of the last steps: each loss counts a twentieth less than the one after it.
    pub mean_loss: Option<f32>,
    /// The metrics after so many steps.
    pub history: Vec<(usize, Vec<Metric>)>,
}

/// What a run needs to go on.
pub(super) struct Saved {
    pub model: ModuleRecord,
    pub optimizer: OptimizerRecord,
    pub schedule: LrSchedulerRecord,
    pub progress: Progress,
}

/// Writes beside the last checkpoint, then takes its place.
pub(super) fn save(
    run: &Path,
    model: impl Module,
    optimizer: OptimizerRecord,
    schedule: LrSchedulerRecord,
    progress: &Progress,
) -> Result<(), TrainingError> {
    let step = progress.step;
    let staged = run.join(PARTIAL);
    let finished = run.join(format!("{PREFIX}{step}"));
    let io = |error: std::io::Error| TrainingError::file(&finished, error);
    remove(&staged).map_err(io)?;
    fs::create_dir_all(&staged).map_err(io)?;
    let written = FileCheckpointer::new(&staged, MODEL)
        .save(step, model.into_record())
        .and_then(|()| FileCheckpointer::new(&staged, OPTIMIZER).save(step, optimizer))
        .and_then(|()| FileCheckpointer::new(&staged, SCHEDULE).save(step, schedule));
    written.map_err(|error| TrainingError::file(&finished, error))?;
    let text = serde_json::to_vec_pretty(progress)
        .map_err(|error| TrainingError::file(&finished, error))?;
    fs::write(staged.join(PROGRESS), text).map_err(io)?;
    for file in fs::read_dir(&staged).map_err(io)? {
        let path = file.map_err(io)?.path();
        let file = fs::File::open(path).map_err(io)?;
        file.sync_all().map_err(io)?;
    }
    remove(&finished).map_err(io)?;
    fs::rename(&staged, &finished).map_err(io)?;
    for (_, older) in checkpoints(run)? {
        if older != finished {
            remove(&older).map_err(io)?;
        }
    }
    Ok(())
}

/// The newest checkpoint, if there is one.
pub(super) fn load(run: &Path) -> Result<Option<Saved>, TrainingError> {
    let Some((step, folder)) = checkpoints(run)?.into_iter().max() else {
        return Ok(None);
    };
    let refuse = |reason: String| TrainingError::file(&folder, reason);
    let text = fs::read(folder.join(PROGRESS)).map_err(|error| refuse(error.to_string()))?;
    let progress = serde_json::from_slice(&text).map_err(|error| refuse(error.to_string()))?;
    let model = FileCheckpointer::new(&folder, MODEL).restore(step);
    let optimizer = FileCheckpointer::new(&folder, OPTIMIZER).restore(step);
    let schedule = FileCheckpointer::new(&folder, SCHEDULE).restore(step);
    Ok(Some(Saved {
        model: model.map_err(|error| refuse(error.to_string()))?,
        optimizer: optimizer.map_err(|error| refuse(error.to_string()))?,
        schedule: schedule.map_err(|error| refuse(error.to_string()))?,
        progress,
    }))
}

/// The folders `step-N` of a run.
fn checkpoints(run: &Path) -> Result<Vec<(usize, PathBuf)>, TrainingError> {
    let entries = match fs::read_dir(run) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(TrainingError::file(run, error)),
    };
    let numbered = entries.flatten().filter_map(|entry| {
        let name = entry.file_name().into_string().ok()?;
        let step = name.strip_prefix(PREFIX)?.parse().ok()?;
        Some((step, entry.path()))
    });
    Ok(numbered.collect())
}

fn remove(folder: &Path) -> std::io::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
