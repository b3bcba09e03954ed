//! The LLVM that cubecl-cpu's build wants.
//!
//! Its build script (of the crate tracel-llvm-bundler) looks for a folder in the user's data directory and
//! downloads it when it is absent. Where that download cannot be reached, the folder is made from Debian's LLVM.

use std::{fs, path::Path, path::PathBuf, process::Command};

use anyhow::{Context, Result, bail};

use super::{State, apt};
use crate::process;

const BUNDLER: &str = "tracel-llvm-bundler";
/// Older by one than the bundle's; it lacks eleven functions, none of which is called.
const DEBIAN_LLVM: &str = "/usr/lib/llvm-22";
const PACKAGES: [&str; 8] = [
    "llvm-22",
    "llvm-22-dev",
    "libpolly-22-dev",
    "liblld-22-dev",
    "libz3-dev",
    "libzstd-dev",
    "zlib1g-dev",
    "libxml2-dev",
];
/// The bundler's own mark of a finished bundle.
const SENTINEL: &str = ".tracel-llvm-installed";

pub fn state() -> Result<State> {
    if prefix()?.join(SENTINEL).exists() {
        return Ok(State::Ready);
    }
    Ok(if reachable(&bundle_url()?) {
        State::NotNeeded("the build downloads it itself")
    } else {
        State::Missing
    })
}

pub fn provide() -> Result<()> {
    let prefix = prefix()?;
    if !cfg!(target_os = "linux") || !apt::available() {
        bail!(
            "its download ({}) cannot be reached, and only a Debian system can make it from packages; unpack \
             that release so that {} exists and create an empty file {SENTINEL} in it",
            bundle_url()?,
            prefix.display()
        );
    }
    apt::install(&PACKAGES)?;
    make_prefix(&prefix).with_context(|| format!("cannot write {}", prefix.display()))
}

/// A folder with LLVM's programs, of the bundle or of Debian.
pub fn programs() -> Result<Option<PathBuf>> {
    let folders = [prefix()?.join("bin"), Path::new(DEBIAN_LLVM).join("bin")];
    let has_all = |folder: &PathBuf| {
        let mut programs = ["llvm-readelf", "llvm-objdump"].iter();
        programs.all(|program| folder.join(program).is_file())
    };
    Ok(folders.into_iter().find(has_all))
}

/// Where the bundler looks.
fn prefix() -> Result<PathBuf> {
    let base = directories::BaseDirs::new().context("this user has no home folder")?;
    Ok(base
        .data_local_dir()
        .join("tracel")
        .join(format!("tracel-llvm-{}", locked_version()?)))
}

/// The bundler's version, which is also its bundle's.
fn locked_version() -> Result<String> {
    let lock = fs::read_to_string(process::workspace().join("Cargo.lock"))
        .context("cannot read Cargo.lock")?;
    let entry = lock.split_once(&format!("name = \"{BUNDLER}\"\nversion = \""));
    let version = entry
        .and_then(|(_, rest)| rest.split_once('"'))
        .map(|(version, _)| version.to_string());
    version.with_context(|| format!("Cargo.lock has no {BUNDLER}"))
}

/// The file that the bundler fetches first, read from the bundler's own source.
fn bundle_url() -> Result<String> {
    let mut metadata = process::cargo();
    metadata.args(["metadata", "--format-version", "1"]);
    let metadata: serde_json::Value = serde_json::from_str(&process::capture(&mut metadata)?)?;
    let packages = metadata["packages"]
        .as_array()
        .context("cargo metadata names no packages")?;
    let manifest = packages.iter().find(|package| package["name"] == BUNDLER);
    let manifest = manifest.and_then(|package| package["manifest_path"].as_str());
    let manifest = Path::new(manifest.with_context(|| format!("the workspace has no {BUNDLER}"))?);
    let source = fs::read_to_string(manifest.with_file_name("src").join("config.rs"))?;
    let base = string_constant(&source, "TRACEL_LLVM_ARTIFACT_BASE_URL")
        .with_context(|| format!("{BUNDLER} no longer says where it downloads from"))?;
    let system = match (std::env::consts::OS, std::env::consts::ARCH) {
        (os, "x86_64") => format!("{os}-x64"),
        (os, _) => format!("{os}-AArch64"),
    };
    Ok(format!(
        "{base}/v{}/{system}.checksums.json",
        locked_version()?
    ))
}

fn string_constant(source: &str, name: &str) -> Option<String> {
    let (_, rest) = source.split_once(&format!("{name}: &str"))?;
    rest.split('"').nth(1).map(str::to_string)
}

fn reachable(url: &str) -> bool {
    let mut probe = Command::new("curl");
    probe.args([
        "--silent",
        "--head",
        "--fail",
        "--location",
        "--max-time",
        "10",
        url,
    ]);
    process::capture(&mut probe).is_ok()
}

#[cfg(unix)]
fn make_prefix(prefix: &Path) -> Result<()> {
    use std::os::unix::fs::{PermissionsExt, symlink};

    if prefix.exists() {
        fs::remove_dir_all(prefix)?;
    }
    let (bin, lib) = (prefix.join("bin"), prefix.join("lib"));
    fs::create_dir_all(&bin)?;
    fs::create_dir_all(&lib)?;
    symlink(format!("{DEBIAN_LLVM}/include"), prefix.join("include"))?;
    for entry in fs::read_dir(format!("{DEBIAN_LLVM}/lib"))? {
        let path = entry?.path();
        if let Some(name) = path
            .file_name()
            .filter(|_| path.extension().is_some_and(|ext| ext == "a"))
        {
            symlink(&path, lib.join(name))?;
        }
    }
    let config = bin.join("llvm-config");
    fs::write(&config, llvm_config(prefix))?;
    fs::set_permissions(&config, fs::Permissions::from_mode(0o755))?;
    fs::write(prefix.join(SENTINEL), "")?;
    Ok(())
}

#[cfg(not(unix))]
fn make_prefix(_: &Path) -> Result<()> {
    bail!("only a Debian system can make it from packages")
}

/// Debian lists some system libraries as paths (`/usr/lib/.../libz3.so`), which the bundler would turn into
/// `-llibz3`; the bundle's own `llvm-config` gives names.
fn llvm_config(prefix: &Path) -> String {
    let prefix = prefix.display();
    format!(
        r#"#!/bin/sh
case "$*" in
  *--libdir*) echo "{prefix}/lib" ;;
  *--includedir*) echo "{prefix}/include" ;;
  *--system-libs*) "{DEBIAN_LLVM}/bin/llvm-config" "$@" | sed 's|/[^ ]*/lib\([^ /]*\)\.so|-l\1|g' ;;
  *) exec "{DEBIAN_LLVM}/bin/llvm-config" "$@" ;;
esac
"#
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_download_address_is_read_over_a_line_break() {
        let source =
            "const BASE_URL: &str =\n    \"https://example.org/d\";\nconst B: &str = \"b\";";
        assert_eq!(
            string_constant(source, "BASE_URL").as_deref(),
            Some("https://example.org/d")
        );
        assert_eq!(string_constant(source, "OTHER"), None);
    }

    #[test]
    fn the_lock_file_names_the_bundle() {
        let version = locked_version().unwrap();
        assert!(
            version.contains('-') && version.split('.').count() == 3,
            "{version}"
        );
    }
}
