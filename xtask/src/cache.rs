//! The folder outside the repository that keeps what was fetched: models, photos, a software Vulkan driver.

use std::{
    env, fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result};
use tempfile::TempDir;

/// `$ATTENTION_CACHE`, or the user's cache folder for this project.
pub fn folder() -> Result<PathBuf> {
    if let Some(folder) = env::var_os("ATTENTION_CACHE") {
        return std::path::absolute(folder).context("ATTENTION_CACHE is not a usable path");
    }
    directories::ProjectDirs::from("", "", "attention")
        .map(|project| project.cache_dir().to_path_buf())
        .context("this user has no home folder; set ATTENTION_CACHE to where models may be kept")
}

const SCRATCH: &str = ".partial-";
/// No download takes longer, so that an older scratch folder belongs to a run that was killed.
const ABANDONED: Duration = Duration::from_secs(24 * 3600);

/// A scratch folder on the same file system as the cache; it disappears when dropped.
pub fn scratch() -> Result<TempDir> {
    let folder = folder()?;
    let scratch = || {
        fs::create_dir_all(&folder)?;
        remove_abandoned(&folder)?;
        tempfile::Builder::new().prefix(SCRATCH).tempdir_in(&folder)
    };
    scratch().with_context(|| format!("cannot write to {}", folder.display()))
}

fn remove_abandoned(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let is_scratch = entry.file_name().to_string_lossy().starts_with(SCRATCH);
        let age = entry.metadata()?.modified()?.elapsed().unwrap_or_default();
        if is_scratch && age > ABANDONED {
            fs::remove_dir_all(entry.path())?;
        }
    }
    Ok(())
}

/// Puts a finished file where it belongs in one step, so that an interrupted run leaves no half file.
pub fn publish(finished: &Path, destination: &Path) -> Result<()> {
    let folder = destination.parent().context("a file needs a folder")?;
    let publish = || {
        fs::create_dir_all(folder)?;
        let staged = tempfile::NamedTempFile::new_in(folder)?;
        fs::copy(finished, staged.path())?;
        staged.persist(destination).map_err(|error| error.error)
    };
    publish().with_context(|| format!("cannot write {}", destination.display()))?;
    Ok(())
}
