//! `cargo xtask setup`: what the build and the tests want from the machine, made only where it is missing.

mod apt;
mod compiler;
mod gpu;
mod llvm;
mod mesa;
mod python;

use std::{path::PathBuf, process::ExitCode};

use anyhow::{Context, Result};

pub use apt::{available as has_apt, install as install_packages};
pub use llvm::programs as llvm_programs;
pub use python::python_with_pip;

/// What set-up leaves for the other tasks.
pub struct Ready {
    /// Starts a program with the software Vulkan driver; none where a real driver does the work.
    pub runner: Option<PathBuf>,
}

/// How one part of the set-up stands.
enum State {
    Ready,
    NotNeeded(&'static str),
    Missing,
}

/// One thing that the machine must offer.
struct Part {
    name: &'static str,
    purpose: &'static str,
    /// What it means to go on without it; none where nothing can be built then.
    without: Option<&'static str>,
    state: fn() -> Result<State>,
    provide: fn() -> Result<()>,
}

const PARTS: [Part; 3] = [
    Part {
        name: "C++ compiler",
        purpose: "the CPU runtime links LLVM, which is C++",
        without: None,
        state: compiler::state,
        provide: compiler::provide,
    },
    Part {
        name: "LLVM",
        purpose: "the CPU runtime compiles kernels with it",
        without: None,
        state: llvm::state,
        provide: llvm::provide,
    },
    Part {
        name: "software Vulkan",
        purpose: "kernels for `vulkan` and `wgpu` run on it where there is no GPU",
        without: Some(
            "nothing runs on `vulkan` and `wgpu` here; to change that, install Mesa 26 or newer by hand",
        ),
        state: mesa::state,
        provide: mesa::provide,
    },
];

/// Provides what is missing; says nothing where nothing is.
pub fn ensure() -> Result<Ready> {
    for part in &PARTS {
        let provided = (part.state)().and_then(|state| match state {
            State::Missing => {
                eprintln!(
                    "setup: {} is missing ({}); getting it ...",
                    part.name, part.purpose
                );
                (part.provide)()?;
                eprintln!("setup: {} is ready", part.name);
                Ok(())
            }
            State::Ready | State::NotNeeded(_) => Ok(()),
        });
        let provided = provided.with_context(|| format!("setup of {}", part.name));
        match (provided, part.without) {
            (Err(error), None) => return Err(error),
            (Err(error), Some(without)) => eprintln!("warning: {error:#}\n  so {without}"),
            (Ok(()), _) => {}
        }
    }
    Ok(Ready {
        runner: mesa::runner()?,
    })
}

/// Says how every part stands and changes nothing; the exit code is 1 where something is missing.
pub fn check() -> Result<ExitCode> {
    let mut code = ExitCode::SUCCESS;
    for part in &PARTS {
        match (part.state)()? {
            State::Ready => println!("{:16} ready", part.name),
            State::NotNeeded(reason) => println!("{:16} not needed: {reason}", part.name),
            State::Missing => {
                println!("{:16} missing: {}", part.name, part.purpose);
                code = ExitCode::FAILURE;
            }
        }
    }
    Ok(code)
}
