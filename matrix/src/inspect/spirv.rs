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
    match run(validator.args(["--target-env", "vulkan1.3"]).arg(&module)) {
        Ok(_) => Ok(None),
        // Older than what it is to judge: it says nothing of the module.
        Err(said) if said.contains(UNKNOWN) => Ok(Some(
            "this spirv-val is too old to know one of the module's capabilities",
        )),
        Err(said) => Err(said),
    }
}

/// What a validator says of a capability whose number it does not know.
const UNKNOWN: &str = "Invalid capability operand";
