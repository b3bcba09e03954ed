//! Where `cargo xtask models fetch NAME` puts real weights.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use directories::ProjectDirs;

/// The folder of a fetched model: `models/NAME` in `$ATTENTION_CACHE`, or in the user's cache
/// folder. It need not exist.
pub fn folder(name: &str) -> Option<PathBuf> {
    Some(cache()?.join("models").join(name))
}

/// The folder of fetched data: `data/NAME` beside the models. It need not exist.
pub fn data(name: &str) -> Option<PathBuf> {
    Some(cache()?.join("data").join(name))
}

fn cache() -> Option<PathBuf> {
    let cache = match std::env::var_os("ATTENTION_CACHE") {
        Some(cache) => PathBuf::from(cache),
        None => ProjectDirs::from("", "", "attention")?
            .cache_dir()
            .to_path_buf(),
    };
    Some(cache)
}

/// What `model` names: a folder, a file such as a GGUF, or the name of a fetched model.
pub fn find(model: &str) -> Result<PathBuf> {
    if Path::new(model).exists() {
        return Ok(PathBuf::from(model));
    }
    match folder(model) {
        Some(folder) if folder.is_dir() => Ok(folder),
        Some(folder) => bail!(
            "model `{model}` is neither a folder or file nor in the cache ({}); to fetch it: \
             cargo xtask models fetch {model}",
            folder.display()
        ),
        None => bail!(
            "model `{model}` is no folder or file, and there is no cache folder; set ATTENTION_CACHE"
        ),
    }
}
