//! AMD code objects, read by LLVM's programs.

use std::{fs, process::Command};

use super::{Tools, Verdict, number_after, run};
use crate::{lower::Lowered, table::Counts};

/// Counts in a code object. LLVM made it, which is AMD's own compiler; reading it back shows that it
/// is whole.
pub fn read(lowered: &Lowered, tools: &Tools, counts: &mut Counts) -> Verdict {
    let Some(llvm) = &tools.llvm else {
        return Ok(Some(
            "no llvm-readelf and llvm-objdump were given: `--llvm DIR`",
        ));
    };
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    let object = folder.path().join("kernel.co");
    fs::write(&object, &lowered.code).map_err(|error| error.to_string())?;
    let program = |name: &str| Command::new(llvm.join(name));
    let (notes, _) = run(program("llvm-readelf").arg("--notes").arg(&object))?;
    let field = |name: &str| number_after(&notes, &format!(".{name}:"));
    counts.registers = field("vgpr_count");
    counts.spilled = field("private_segment_fixed_size");
    counts.shared_memory = field("group_segment_fixed_size");

    let mut objdump = program("llvm-objdump");
    let (code, _) = run(objdump.args(["-d", "--no-show-raw-insn"]).arg(&object))?;
    let operations: Vec<&str> = code.lines().filter_map(operation).collect();
    let beginning = |prefixes: &[&str]| {
        let counted = operations
            .iter()
            .filter(|operation| prefixes.iter().any(|prefix| operation.starts_with(prefix)));
        Some(counted.count() as u64)
    };
    counts.instructions = Some(operations.len() as u64);
    counts.matrix = beginning(&["v_mfma", "v_wmma"]);
    counts.barriers = beginning(&["s_barrier"]);
    Ok(None)
}

/// `\tv_fma_f32 v1, v2, v3, v1   // 0000000012C4` is a `v_fma_f32`.
fn operation(line: &str) -> Option<&str> {
    let word = line.strip_prefix('\t')?.split_whitespace().next()?;
    word.contains('_').then_some(word)
}
