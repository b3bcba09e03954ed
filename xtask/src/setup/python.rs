//! Python's pip, which fetches packages from whatever index this machine is set up to use.

use std::{path::PathBuf, process::Command};

use anyhow::{Context, Result, ensure};

use super::apt;
use crate::process;

/// A Python that has pip; where there is none, Debian's is installed.
pub fn python_with_pip() -> Result<PathBuf> {
    if let Some(python) = find() {
        return Ok(python);
    }
    let purpose = "it fetches packages from the Python index";
    ensure!(apt::available(), "no python3 with pip is found; {purpose}");
    apt::install(&["python3-pip"]).with_context(|| format!("python3-pip is missing; {purpose}"))?;
    find().context("Debian's python3 does not start its pip")
}

fn find() -> Option<PathBuf> {
    let on_path = ["python3", "python"].into_iter().filter_map(process::find);
    let debian = PathBuf::from("/usr/bin/python3");
    on_path.chain([debian]).find(|python| {
        let mut pip = Command::new(python);
        process::capture(pip.args(["-m", "pip", "--version"])).is_ok()
    })
}
