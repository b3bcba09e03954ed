//! A C++ compiler, for its standard library: rustc links LLVM against it.

use std::{path::Path, process::Command};

use anyhow::{Result, bail};

use super::{State, apt};
use crate::process;

pub fn state() -> Result<State> {
    if !cfg!(target_os = "linux") {
        return Ok(State::NotNeeded("the system's own tools serve"));
    }
    Ok(if has_standard_library() {
        State::Ready
    } else {
        State::Missing
    })
}

pub fn provide() -> Result<()> {
    if !apt::available() {
        bail!(
            "no libstdc++ is found by `cc`; install a C++ compiler (g++) with this system's package manager"
        );
    }
    apt::install(&["g++"])
}

/// `cc` answers with a bare name for a library that it does not have.
fn has_standard_library() -> bool {
    let mut cc = Command::new("cc");
    cc.arg("-print-file-name=libstdc++.so");
    process::capture(&mut cc).is_ok_and(|path| Path::new(path.trim()).is_absolute())
}
