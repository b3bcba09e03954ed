//! Debian's package manager, and the mirror that this machine already uses.

use std::{fs, path::Path, process::Command};

use anyhow::{Result, bail};

use crate::process;

/// A package archive, as the machine's own sources name it.
#[derive(Debug, PartialEq)]
pub struct Mirror {
    pub uri: String,
    pub keyring: String,
}

const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

pub fn available() -> bool {
    process::find("apt-get").is_some() && process::find("dpkg").is_some()
}

/// Installs what is not installed yet.
pub fn install(packages: &[&str]) -> Result<()> {
    let missing: Vec<&str> = packages
        .iter()
        .copied()
        .filter(|name| !installed(name))
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let list = missing.join(" ");
    if process::capture(Command::new("id").arg("-u"))?.trim() != "0" {
        bail!(
            "installing packages needs root: run `apt-get update && apt-get install --no-install-recommends \
             {list}` as root once, then this command again"
        );
    }
    if !missing.iter().all(|name| offered(name)) {
        process::capture(apt_get().args(["update", "-qq"]))?;
    }
    if let Some(name) = missing.iter().find(|name| !offered(name)) {
        bail!(
            "apt offers no package {name}: it is in Debian 12 with its security updates, and later"
        );
    }
    process::capture(
        apt_get()
            .args(["install", "-y", "-qq", "--no-install-recommends"])
            .args(&missing),
    )?;
    Ok(())
}

pub fn apt_get() -> Command {
    let mut command = Command::new("apt-get");
    command.env("DEBIAN_FRONTEND", "noninteractive");
    command
}

fn installed(package: &str) -> bool {
    let mut query = Command::new("dpkg-query");
    query.args(["-W", "-f", "${Status}", package]);
    process::capture(&mut query).is_ok_and(|status| status == "install ok installed")
}

fn offered(package: &str) -> bool {
    let mut policy = Command::new("apt-cache");
    policy.env("LC_ALL", "C").args(["policy", package]);
    process::capture(&mut policy)
        .is_ok_and(|text| text.contains("Candidate:") && !text.contains("Candidate: (none)"))
}

/// The archive from which this Debian itself was installed; `root` is `/`, or a test's folder.
pub fn debian_mirror(root: &Path) -> Option<Mirror> {
    let release = fs::read_to_string(root.join("etc/os-release")).ok()?;
    let field = |key: &str| {
        release
            .lines()
            .find_map(|line| line.strip_prefix(key))
            .map(|value| value.trim_matches('"'))
    };
    if field("ID=") != Some("debian") {
        return None;
    }
    // Testing and unstable have no code name of their own in every image.
    let suite = field("VERSION_CODENAME=").unwrap_or("sid");
    source_files(root)
        .iter()
        .find_map(|(is_deb822, text)| match is_deb822 {
            true => text
                .split("\n\n")
                .find_map(|stanza| from_stanza(stanza, suite)),
            false => text.lines().find_map(|line| from_line(line, suite)),
        })
}

fn source_files(root: &Path) -> Vec<(bool, String)> {
    let mut paths = vec![root.join("etc/apt/sources.list")];
    if let Ok(entries) = fs::read_dir(root.join("etc/apt/sources.list.d")) {
        paths.extend(entries.flatten().map(|entry| entry.path()));
    }
    paths.sort();
    let is_deb822 = |path: &Path| {
        path.extension()
            .is_some_and(|extension| extension == "sources")
    };
    paths
        .iter()
        .filter_map(|path| Some((is_deb822(path), fs::read_to_string(path).ok()?)))
        .collect()
}

/// One paragraph of the `.sources` format.
fn from_stanza(stanza: &str, suite: &str) -> Option<Mirror> {
    let words = |key: &str| -> Vec<&str> {
        let line = stanza.lines().find_map(|line| line.strip_prefix(key));
        line.map(|value| value.split_whitespace().collect())
            .unwrap_or_default()
    };
    let serves = words("Types:").contains(&"deb")
        && words("Suites:").contains(&suite)
        && words("Components:").contains(&"main");
    let uri = words("URIs:").first().filter(|_| serves)?.to_string();
    let keyring = words("Signed-By:")
        .first()
        .filter(|path| path.starts_with('/'))
        .copied();
    Some(Mirror {
        uri,
        keyring: keyring.unwrap_or(KEYRING).into(),
    })
}

/// One line of the classic format: `deb [options] uri suite component...`.
fn from_line(line: &str, suite: &str) -> Option<Mirror> {
    let rest = line.trim().strip_prefix("deb")?.trim_start();
    let (options, rest) = match rest.strip_prefix('[') {
        Some(rest) => rest.split_once(']')?,
        None => ("", rest),
    };
    let mut words = rest.split_whitespace();
    let uri = words.next()?.to_string();
    if words.next()? != suite || !words.any(|component| component == "main") {
        return None;
    }
    let keyring = options
        .split_whitespace()
        .find_map(|option| option.strip_prefix("signed-by="));
    Some(Mirror {
        uri,
        keyring: keyring.unwrap_or(KEYRING).into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mirror_of(id: &str, file: &str, text: &str) -> Option<Mirror> {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("etc/apt/sources.list.d")).unwrap();
        let release = format!("NAME=\"x\"\nVERSION_CODENAME=bookworm\nID={id}\n");
        fs::write(root.path().join("etc/os-release"), release).unwrap();
        fs::write(root.path().join("etc/apt").join(file), text).unwrap();
        debian_mirror(root.path())
    }

    #[test]
    fn a_sources_file_names_the_mirror_and_not_the_security_archive() {
        let text = "Types: deb\nURIs: http://mirror.example/security\nSuites: bookworm-security\n\
                    Components: main\n\n# the main one\nTypes: deb deb-src\nURIs: http://mirror.example/debian\n\
                    Suites: bookworm bookworm-updates\nComponents: main contrib\nSigned-By: /keys/a.gpg\n";
        let mirror = mirror_of("debian", "sources.list.d/debian.sources", text).unwrap();
        assert_eq!(
            mirror,
            Mirror {
                uri: "http://mirror.example/debian".into(),
                keyring: "/keys/a.gpg".into()
            }
        );
    }

    #[test]
    fn a_classic_list_names_the_mirror_with_and_without_options() {
        let text = "# deb http://old.example bookworm main\n\
                    deb http://mirror.example/security bookworm-security main\n\
                    deb [arch=amd64 signed-by=/keys/b.gpg] http://mirror.example/debian bookworm main\n";
        let mirror = mirror_of("debian", "sources.list", text).unwrap();
        assert_eq!(
            mirror,
            Mirror {
                uri: "http://mirror.example/debian".into(),
                keyring: "/keys/b.gpg".into()
            }
        );
        let mirror = mirror_of(
            "debian",
            "sources.list",
            "deb http://m.example/d bookworm main\n",
        )
        .unwrap();
        assert_eq!(
            mirror,
            Mirror {
                uri: "http://m.example/d".into(),
                keyring: KEYRING.into()
            }
        );
    }

    #[test]
    fn another_distribution_has_no_debian_mirror() {
        assert_eq!(
            mirror_of(
                "ubuntu",
                "sources.list",
                "deb http://m.example/d bookworm main\n"
            ),
            None
        );
    }
}
