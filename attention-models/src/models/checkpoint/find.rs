//! Where a model lies that is given by a path or by a name.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

use directories::{BaseDirs, ProjectDirs};

use super::CheckpointError;

/// The folder or file of a model: a path that exists, or else a name, which is looked for in
///
/// 1. `models` of this library's cache, where `cargo xtask models fetch NAME` puts it:
///    `$ATTENTION_CACHE`, or `attention` in the user's cache folder;
/// 2. the cache of Hugging Face's hub, for names such as `sentence-transformers/all-MiniLM-L6-v2`,
///    at the commit that was `main` when it was last downloaded: `$HF_HUB_CACHE`, or
///    `$HF_HOME/hub`, or `huggingface/hub` in the user's cache folder.
///
/// Nothing is downloaded. Every `load` of a model, tokenizer or image processor begins with it.
///
/// # Errors
///
/// [`CheckpointError::NotFound`] with the places that were looked at.
pub fn find(place: impl AsRef<Path>) -> Result<PathBuf, CheckpointError> {
    Caches::of_user().find(place.as_ref())
}

/// Where models and data are kept that `cargo xtask` fetched. It need not exist.
pub(crate) fn cache_folder() -> Option<PathBuf> {
    let named = env::var_os("ATTENTION_CACHE").map(PathBuf::from);
    named.or_else(|| {
        let project = ProjectDirs::from("", "", "attention")?;
        Some(project.cache_dir().to_path_buf())
    })
}

/// Folders of models, which need not exist.
struct Caches {
    fetched: Option<PathBuf>,
    hub: Option<PathBuf>,
}

impl Caches {
    fn of_user() -> Self {
        let named = |variable| env::var_os(variable).map(PathBuf::from);
        let hub = named("HF_HUB_CACHE")
            .or_else(|| Some(named("HF_HOME")?.join("hub")))
            .or_else(|| Some(BaseDirs::new()?.cache_dir().join("huggingface/hub")));
        Self {
            fetched: cache_folder().map(|cache| cache.join("models")),
            hub,
        }
    }

    fn find(&self, place: &Path) -> Result<PathBuf, CheckpointError> {
        if place.exists() {
            return Ok(place.to_path_buf());
        }
        let fetched = self.fetched.as_ref().map(|models| models.join(place));
        let downloaded = self.hub.as_ref().and_then(|hub| snapshot(hub, place));
        let looked: Vec<PathBuf> = fetched.into_iter().chain(downloaded).collect();
        match looked.iter().find(|path| path.exists()) {
            Some(path) => Ok(path.clone()),
            None => Err(CheckpointError::NotFound {
                given: place.to_path_buf(),
                looked,
            }),
        }
    }
}

/// Where the hub's cache keeps the files of `name`, which is `model` or `owner/model`.
fn snapshot(hub: &Path, name: &Path) -> Option<PathBuf> {
    let name = name.to_str()?;
    let is_name = name.split('/').all(|part| !matches!(part, "" | "." | ".."));
    let folder = hub.join(format!("models--{}", name.replace('/', "--")));
    let commit = fs::read_to_string(folder.join("refs/main")).unwrap_or("main".into());
    is_name.then(|| folder.join("snapshots").join(commit.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caches(folder: &Path) -> Caches {
        Caches {
            fetched: Some(folder.join("models")),
            hub: Some(folder.join("hub")),
        }
    }

    #[test]
    fn a_path_that_exists_is_taken_before_a_name_in_a_cache() {
        let folder = tempfile::tempdir().unwrap();
        let fetched = folder.path().join("models/minilm");
        fs::create_dir_all(&fetched).unwrap();
        let caches = caches(folder.path());
        assert_eq!(caches.find(folder.path()).unwrap(), folder.path());
        assert_eq!(caches.find("minilm".as_ref()).unwrap(), fetched);
    }

    #[test]
    fn a_name_of_the_hub_is_its_main_commit() {
        let folder = tempfile::tempdir().unwrap();
        let model = folder.path().join("hub/models--owner--tiny");
        let commit = model.join("snapshots/0a1b");
        fs::create_dir_all(&commit).unwrap();
        fs::create_dir_all(model.join("snapshots/older")).unwrap();
        fs::create_dir_all(model.join("refs")).unwrap();
        fs::write(model.join("refs/main"), "0a1b\n").unwrap();
        let found = caches(folder.path()).find("owner/tiny".as_ref());
        assert_eq!(found.unwrap(), commit);
    }

    #[test]
    fn a_model_that_is_nowhere_is_refused_with_the_places_that_were_looked_at() {
        let folder = tempfile::tempdir().unwrap();
        let caches = caches(folder.path());
        let error = caches.find("owner/tiny".as_ref()).unwrap_err().to_string();
        for part in ["`owner/tiny`", "models/owner/tiny", "models--owner--tiny"] {
            assert!(error.contains(part), "{error}");
        }
        let error = caches.find("../gone".as_ref()).unwrap_err().to_string();
        assert!(!error.contains("models--"), "{error}");
    }
}
