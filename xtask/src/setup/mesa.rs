//! Mesa's lavapipe, Vulkan on the CPU, unpacked beside the system.
//!
//! Debian 12's own is too old: it crashes on SPIR-V kernels and ends long loops early without a word. The one
//! of Debian's development branch is unpacked into the cache with its C library, and a script starts programs
//! under it. Nothing is installed.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail, ensure};

use super::{State, apt, gpu};
use crate::{cache, process};

/// Older ones lack cooperative matrices or crash.
const OLDEST: u32 = 26;
const PACKAGES: [&str; 3] = ["mesa-vulkan-drivers", "libvulkan1", "vulkan-tools"];

pub fn state() -> Result<State> {
    if !cfg!(target_os = "linux") {
        return Ok(State::NotNeeded("this system brings its own GPU interface"));
    }
    if gpu::has_real_driver(Path::new("/")) {
        return Ok(State::NotNeeded("a GPU's own driver is installed"));
    }
    if folder()?.join("run").exists() {
        return Ok(State::Ready);
    }
    Ok(if is_recent(&mut Command::new("vulkaninfo")) {
        State::NotNeeded("the system's own lavapipe is recent")
    } else {
        State::Missing
    })
}

/// The script that starts a program with the unpacked driver, where one is needed.
pub fn runner() -> Result<Option<PathBuf>> {
    let run = folder()?.join("run");
    Ok(Some(run).filter(|run| run.exists() && !gpu::has_real_driver(Path::new("/"))))
}

pub fn provide() -> Result<()> {
    ensure!(
        apt::available(),
        "only a Debian system can unpack it from packages, and apt-get is not found"
    );
    let mirror = apt::debian_mirror(Path::new("/"));
    let mirror = mirror.context(
        "only a Debian system can unpack it, and no Debian mirror stands in apt's sources",
    )?;
    let scratch = cache::scratch()?;
    let staged = scratch.path().join("mesa");
    fs::create_dir_all(&staged)?;
    let packages = download(&mirror, &scratch.path().join("apt"));
    for package in packages.context("cannot download Mesa's packages")? {
        process::capture(
            Command::new("dpkg")
                .arg("-x")
                .arg(package)
                .arg(staged.join("root")),
        )?;
    }
    write_runner(&staged)?;
    let mut info = Command::new(staged.join("run"));
    info.arg(staged.join("root/usr/bin/vulkaninfo"));
    ensure!(
        is_recent(&mut info),
        "the mirror's Mesa does not start, or is older than {OLDEST}"
    );
    let folder = folder()?;
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    fs::rename(&staged, &folder).with_context(|| format!("cannot write {}", folder.display()))
}

fn folder() -> Result<PathBuf> {
    Ok(cache::folder()?.join("mesa"))
}

/// Fetches the packages and all that they stand on, with an apt state of its own that knows of no installed
/// package; needs no root.
fn download(mirror: &apt::Mirror, state: &Path) -> Result<Vec<PathBuf>> {
    for folder in ["lists/partial", "archives/partial"] {
        fs::create_dir_all(state.join(folder))?;
    }
    let path = |name: &str| state.join(name).display().to_string();
    fs::write(path("status"), "")?;
    let source = format!(
        "deb [signed-by={}] {} sid main\n",
        mirror.keyring, mirror.uri
    );
    fs::write(path("sources.list"), source)?;
    let settings = [
        ("Dir::State", path("")),
        ("Dir::State::lists", path("lists")),
        ("Dir::State::status", path("status")),
        ("Dir::Cache", path("")),
        ("Dir::Cache::archives", path("archives")),
        ("Dir::Etc::sourcelist", path("sources.list")),
        ("Dir::Etc::sourceparts", "/dev/null".into()),
        ("Dir::Etc::preferencesparts", "/dev/null".into()),
        // A mirror of a fixed date is as good.
        ("Acquire::Check-Valid-Until", "false".into()),
        // Else an unreachable mirror is only a warning.
        ("APT::Update::Error-Mode", "any".into()),
        // apt's own download user may not enter the cache folder.
        ("APT::Sandbox::User", "root".into()),
    ];
    let text: String = settings
        .iter()
        .map(|(key, value)| format!("{key} \"{value}\";\n"))
        .collect();
    fs::write(path("apt.conf"), text)?;

    let apt_get = || {
        let mut command = apt::apt_get();
        command.env("APT_CONFIG", path("apt.conf"));
        command
    };
    process::capture(apt_get().args(["update", "-qq"]))?;
    let install = [
        "install",
        "-y",
        "-qq",
        "--download-only",
        "--no-install-recommends",
    ];
    process::capture(apt_get().args(install).args(PACKAGES))?;
    let archives = fs::read_dir(path("archives"))?
        .flatten()
        .map(|entry| entry.path());
    Ok(archives
        .filter(|path| path.extension().is_some_and(|extension| extension == "deb"))
        .collect())
}

/// Writes the script `run` beside the unpacked `root`; both may be moved together.
fn write_runner(folder: &Path) -> Result<()> {
    let (triplet, loader) = match std::env::consts::ARCH {
        "x86_64" => ("x86_64-linux-gnu", "usr/lib64/ld-linux-x86-64.so.2"),
        "aarch64" => ("aarch64-linux-gnu", "usr/lib/ld-linux-aarch64.so.1"),
        other => bail!("not known for the processor {other}"),
    };
    let script = format!(
        r#"#!/bin/sh
# Starts a program under the unpacked C library, with lavapipe as the only Vulkan driver.
root=$(cd "$(dirname "$0")" && pwd)/root
libraries=$root/usr/lib/{triplet}
for folder in "$root"/usr/lib/llvm-*/lib; do libraries=$libraries:$folder; done
for manifest in "$root"/usr/share/vulkan/icd.d/lvp_icd*.json; do export VK_DRIVER_FILES="$manifest"; done
exec "$root/{loader}" --library-path "$libraries" "$@"
"#
    );
    let run = folder.join("run");
    fs::write(&run, script)?;
    make_executable(&run)
}

#[cfg(unix)]
fn make_executable(path: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    Ok(fs::set_permissions(
        path,
        fs::Permissions::from_mode(0o755),
    )?)
}

#[cfg(not(unix))]
fn make_executable(_: &Path) -> Result<()> {
    Ok(())
}

fn is_recent(vulkaninfo: &mut Command) -> bool {
    process::capture(vulkaninfo.arg("--summary")).is_ok_and(|text| names_recent_lavapipe(&text))
}

fn names_recent_lavapipe(summary: &str) -> bool {
    let value = |key: &str| {
        let line = summary
            .lines()
            .find(|line| line.trim_start().starts_with(key))?;
        line.split_once('=').map(|(_, value)| value.trim())
    };
    let version = value("driverInfo").and_then(|info| info.strip_prefix("Mesa "));
    let major = version.and_then(|version| version.split('.').next()?.parse::<u32>().ok());
    value("driverName") == Some("llvmpipe") && major.is_some_and(|major| major >= OLDEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_recent_lavapipe_is_trusted() {
        let summary = |driver: &str, info: &str| {
            format!(
                "Devices:\nGPU0:\n\tdriverName         = {driver}\n\tdriverInfo         = {info}\n"
            )
        };
        assert!(names_recent_lavapipe(&summary(
            "llvmpipe",
            "Mesa 26.2.6-1 (LLVM 22.1.8)"
        )));
        assert!(!names_recent_lavapipe(&summary(
            "llvmpipe",
            "Mesa 22.3.6 (LLVM 15.0.6)"
        )));
        assert!(!names_recent_lavapipe(&summary("radv", "Mesa 26.2.6")));
        assert!(!names_recent_lavapipe(""));
    }
}
