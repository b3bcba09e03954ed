//! `cargo xtask models`: pretrained weights, as folders that Hugging Face's own tools would write.

mod catalog;
mod checkpoint;
mod dinov2;
mod hub;
mod onnx;
#[cfg(test)]
mod tests;

use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context, Result, bail};
use clap::Subcommand;

use crate::{cache, package};
use catalog::{MODELS, Model, PHOTO};

/// What `cargo xtask models` takes.
#[derive(Subcommand)]
pub enum Models {
    /// List the models, their sources and licences
    List,
    /// Fetch a model into the cache
    Fetch {
        /// A name that `list` shows
        name: String,
        /// Take the files from this Hugging Face folder instead of downloading
        #[arg(long, value_name = "DIR")]
        from: Option<PathBuf>,
        /// Write here instead of the cache
        #[arg(long, value_name = "DIR")]
        out: Option<PathBuf>,
    },
}

impl Models {
    pub fn run(&self) -> Result<ExitCode> {
        match self {
            Models::List => list()?,
            Models::Fetch { name, from, out } => {
                let model = find(name)?;
                let folder = out.clone().map_or_else(|| model_folder(model), Ok)?;
                fetch(model, from.as_deref(), &folder)?;
                println!("{}", folder.display());
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Fetches a model into the cache, unless it is there, and returns its folder.
pub fn fetch_default(name: &str) -> Result<PathBuf> {
    let model = find(name)?;
    let folder = model_folder(model)?;
    fetch(model, None, &folder)?;
    Ok(folder)
}

/// The demo's photograph, fetched into the cache unless it is there.
pub fn photo() -> Result<PathBuf> {
    let name = Path::new(PHOTO.member)
        .file_name()
        .context("the photo's entry has no name")?;
    let photo = cache::folder()?.join("photos").join(name);
    if !photo.exists() {
        let scratch = cache::scratch()?;
        let bytes = package::read(&PHOTO, scratch.path())?;
        let unpacked = scratch.path().join(name);
        fs::write(&unpacked, bytes)?;
        cache::publish(&unpacked, &photo)?;
    }
    Ok(photo)
}

fn list() -> Result<()> {
    for model in &MODELS {
        let fetched = if is_complete(model, &model_folder(model)?) {
            "fetched"
        } else {
            "not fetched"
        };
        println!("{}  {}  [{fetched}]", model.name, model.title);
        println!("    licence  {}", model.licence);
        println!(
            "    sources  PyPI {} {}, else the hub's {}",
            model.package.name, model.package.version, model.hub
        );
    }
    Ok(())
}

fn find(name: &str) -> Result<&'static Model> {
    MODELS
        .iter()
        .find(|model| model.name == name)
        .with_context(|| {
            let known: Vec<&str> = MODELS.iter().map(|model| model.name).collect();
            format!(
                "no model is called {name:?}; there is: {}",
                known.join(", ")
            )
        })
}

fn model_folder(model: &Model) -> Result<PathBuf> {
    Ok(cache::folder()?.join("models").join(model.name))
}

fn is_complete(model: &Model, folder: &Path) -> bool {
    model.files.iter().all(|file| folder.join(file).is_file())
}

/// The package comes before the hub: its checksum is pinned here, and the goldens were computed from it.
fn fetch(model: &Model, from: Option<&Path>, folder: &Path) -> Result<()> {
    if from.is_none() && is_complete(model, folder) {
        return Ok(());
    }
    let scratch = cache::scratch()?;
    let staged = scratch.path().join(model.name);
    fs::create_dir_all(&staged)?;
    match from {
        Some(from) => copy_folder(model, from, &staged)?,
        None => {
            if let Err(error) = from_package(model, scratch.path(), &staged) {
                eprintln!("the package cannot be had, trying the hub: {error:#}");
                hub::download(model, &staged).with_context(|| neither_source(model))?;
            }
        }
    }
    checkpoint::check(&staged, model.architecture)?;
    for file in model.files {
        cache::publish(&staged.join(file), &folder.join(file))?;
    }
    Ok(())
}

fn from_package(model: &Model, scratch: &Path, staged: &Path) -> Result<()> {
    let bytes = package::read(&model.package, scratch)?;
    let converted = (model.convert)(&bytes)
        .with_context(|| format!("cannot convert {}", model.package.member))?;
    checkpoint::write(&converted, staged)
}

fn copy_folder(model: &Model, from: &Path, staged: &Path) -> Result<()> {
    for file in model.files {
        let source = from.join(file);
        if !source.is_file() {
            bail!(
                "{} has no {file}; a Hugging Face folder of {} holds {}",
                from.display(),
                model.name,
                model.files.join(", ")
            );
        }
        fs::copy(&source, staged.join(file))
            .with_context(|| format!("cannot read {}", source.display()))?;
    }
    Ok(())
}

fn neither_source(model: &Model) -> String {
    format!(
        "neither source of {} can be had; where another machine has it, copy its folder here and use --from DIR",
        model.name
    )
}
