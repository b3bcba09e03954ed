//! PTX through NVIDIA's assembler and disassembler.

use std::{fs, process::Command};

use super::{Tools, Verdict, number_after, number_before, run};
use crate::{gpu::Target, lower::Lowered, table::Counts};

/// Assembles PTX to the machine code of the card and counts in it.
pub fn assemble(lowered: &Lowered, target: &Target, tools: &Tools, counts: &mut Counts) -> Verdict {
    let Some(cuda) = &tools.cuda else {
        return Ok(Some("no ptxas was given: `--cuda DIR`"));
    };
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    let [ptx, cubin] = ["kernel.ptx", "kernel.cubin"].map(|name| folder.path().join(name));
    fs::write(&ptx, &lowered.code).map_err(|error| error.to_string())?;
    let mut ptxas = Command::new(cuda.join("bin/ptxas"));
    ptxas.args(["-v", "-arch", &target.arch]).arg(&ptx);
    let (_, said) = run(ptxas.arg("-o").arg(&cubin))?;
    let spills = ["bytes spill stores", "bytes spill loads"];
    let spills = spills.map(|label| number_before(&said, label).unwrap_or(0));
    counts.registers = number_after(&said, "Used");
    counts.spilled = Some(spills.into_iter().max().unwrap_or(0));

    let mut nvdisasm = Command::new(cuda.join("bin/nvdisasm"));
    let (code, _) = run(nvdisasm.arg("-c").arg(&cubin))?;
    let operations: Vec<&str> = code.lines().filter_map(operation).collect();
    let of = |names: &[&str]| {
        let counted = operations.iter().filter(|operation| {
            let name = operation.split('.').next();
            name.is_some_and(|name| names.contains(&name))
        });
        Some(counted.count() as u64)
    };
    counts.instructions = Some(operations.len() as u64);
    counts.matrix = of(&["HMMA", "HGMMA", "IMMA", "UTCHMMA"]);
    counts.barriers = of(&["BAR"]);
    Ok(None)
}

/// `/*0a10*/ @!P0 FFMA.FTZ R1, R2, R3, R1 ;` is an `FFMA.FTZ`.
fn operation(line: &str) -> Option<&str> {
    let rest = line.trim_start().strip_prefix("/*")?;
    let (address, rest) = rest.split_once("*/")?;
    if address.is_empty() || !address.chars().all(|c| c.is_ascii_hexdigit()) {
        return None;
    }
    let mut words = rest.split_whitespace();
    let first = words.next()?;
    let word = if first.starts_with('@') {
        words.next()?
    } else {
        first
    };
    let word = word.trim_end_matches([';', ',']);
    word.starts_with(|c: char| c.is_ascii_uppercase())
        .then_some(word)
}

#[cfg(test)]
mod tests {
    use super::operation;

    #[test]
    fn an_instruction_is_read_behind_its_address_and_predicate() {
        let line = "        /*0a10*/              @!P0 FFMA.FTZ R1, R2, R3, R1 ;";
        assert_eq!(operation(line), Some("FFMA.FTZ"));
        assert_eq!(operation("        /*0a20*/  EXIT ;"), Some("EXIT"));
        assert_eq!(operation(".L_x_1:"), None);
        assert_eq!(operation("  /* 0x000fe200000001ff */"), None);
    }
}
