//! A package of the npm registry that this machine's npm is set up to use.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};

use crate::{package, process};

/// Downloads a release, verifies its archive's checksum, and unpacks it; returns the folder of its
/// files.
pub fn unpacked(name: &str, version: &str, sha256: &str, scratch: &Path) -> Result<PathBuf> {
    for program in ["npm", "tar"] {
        ensure!(
            process::find(program).is_some(),
            "{program} is not found; the package {name} comes by it"
        );
    }
    let folder = scratch.join("npm");
    fs::create_dir_all(&folder)?;
    eprintln!("fetching {name}@{version} by npm");
    let mut npm = Command::new("npm");
    npm.args(["pack", "--silent", "--pack-destination"])
        .arg(&folder)
        .arg(format!("{name}@{version}"));
    process::capture(&mut npm).with_context(|| format!("npm cannot fetch {name}@{version}"))?;
    let archive = fs::read_dir(&folder)?.flatten().next();
    let archive = archive.context("npm left no archive")?.path();
    package::verify(&archive, sha256)?;
    let mut tar = Command::new("tar");
    tar.arg("-xzf").arg(&archive).arg("-C").arg(&folder);
    process::stream(&mut tar)?;
    Ok(folder.join("package"))
}
