//! Vendors' compilers and languages' validators, and what they count.

mod amd;
mod flow;
mod nvidia;
mod spirv;
mod wgsl;

use std::{path::PathBuf, process::Command};

use flow::{Instruction, Kind};

use crate::{
    gpu::{Compiler, Target},
    lower::Lowered,
    table::{Counts, Outcome},
};

/// The programs of vendors that this machine has.
#[derive(Debug, Clone, Default)]
pub struct Tools {
    /// The folder of a CUDA toolkit, or of its wheels: `bin/ptxas`, `bin/nvdisasm`.
    pub cuda: Option<PathBuf>,
    /// A folder with llvm-readelf and llvm-objdump.
    pub llvm: Option<PathBuf>,
    /// Khronos' validator of SPIR-V.
    pub spirv_val: Option<PathBuf>,
}

/// Compiles or validates what was lowered, and counts.
pub fn inspect(lowered: &Lowered, target: &Target, tools: &Tools) -> (Outcome, Counts) {
    let shared = lowered.shared_memory;
    let mut counts = Counts {
        shared_memory: Some(shared as u64),
        ..Counts::default()
    };
    let available = target.properties.hardware.max_shared_memory_size;
    if shared > available {
        let reason = format!("{shared} bytes of shared memory, the device has {available}");
        return (Outcome::Failed(reason), counts);
    }
    let outcome = match &target.compiler {
        Compiler::Wgsl(_) => wgsl::validate(lowered, target, &mut counts),
        Compiler::Nvptx(_) => nvidia::assemble(lowered, target, tools, &mut counts),
        Compiler::AmdGpu(_) => amd::read(lowered, tools, &mut counts),
        Compiler::Spirv(_) => spirv::validate(lowered, tools),
        Compiler::CudaCpp(_) => Ok(Some("no NVRTC is part of the matrix")),
        Compiler::HipCpp(_) => Ok(Some("no HIP headers are part of the matrix")),
        Compiler::Msl(_) => Ok(Some("Apple's compiler runs on Apple's systems only")),
    };
    let outcome = match outcome {
        Ok(None) => Outcome::Compiled,
        Ok(Some(missing)) => Outcome::Lowered(missing.into()),
        Err(reason) => Outcome::Failed(reason),
    };
    (outcome, counts)
}

/// `Ok(Some)` says what is missing to compile it; `Err` what the compiler said.
type Verdict = Result<Option<&'static str>, String>;

fn run(command: &mut Command) -> Result<(String, String), String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command
        .output()
        .map_err(|error| format!("{program}: {error}"))?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    if output.status.success() {
        return Ok((stdout, stderr));
    }
    let said: String = stderr.lines().take(3).collect::<Vec<_>>().join(" ");
    Err(format!("{program}: {said}"))
}

/// What is counted of any machine's instructions.
fn count_all(instructions: &[Instruction], counts: &mut Counts) {
    counts.instructions = Some(instructions.len() as u64);
    counts.matrix = Some(flow::count(instructions, Kind::Matrix));
    counts.barriers = Some(flow::count(instructions, Kind::Barrier));
    counts.hot_loop = flow::hot_loop(instructions);
}

/// The number that follows `label` for the first time.
fn number_after(text: &str, label: &str) -> Option<u64> {
    let rest = text.split_once(label)?.1.trim_start();
    let end = rest.find(|c: char| !c.is_ascii_digit());
    rest[..end.unwrap_or(rest.len())].parse().ok()
}

/// The number that stands before `label` for the first time.
fn number_before(text: &str, label: &str) -> Option<u64> {
    let before = text.split_once(label)?.0.trim_end();
    let start = before.rfind(|c: char| !c.is_ascii_digit());
    before[start.map_or(0, |start| start + 1)..].parse().ok()
}

#[cfg(test)]
mod tests {
    use super::{number_after, number_before};

    #[test]
    fn numbers_are_read_beside_their_labels() {
        let text = "ptxas info: Used 168 registers, 8 bytes spill stores, 12 bytes spill loads";
        assert_eq!(number_after(text, "Used"), Some(168));
        assert_eq!(number_before(text, "bytes spill loads"), Some(12));
        assert_eq!(number_after(text, "barriers"), None);
    }
}
