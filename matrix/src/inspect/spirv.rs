//! SPIR-V through Khronos' validator.

use std::{fs, process::Command};

use super::{Tools, Verdict, run};
use crate::lower::Lowered;

/// Validates a module by Vulkan's rules.
pub fn validate(lowered: &Lowered, tools: &Tools) -> Verdict {
    let Some(program) = &tools.spirv_val else {
        return Ok(Some("no spirv-val was given: `--spirv-val FILE`"));
    };
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    let module = folder.path().join("kernel.spv");
    fs::write(&module, &lowered.code).map_err(|error| error.to_string())?;
    let mut validator = Command::new(program);
    run(validator.args(["--target-env", "vulkan1.3"]).arg(&module))?;
    Ok(None)
}
