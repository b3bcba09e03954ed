//! PTX through NVIDIA's assembler and disassembler.

use std::{collections::HashMap, fs, process::Command};

use super::{
    Tools, Verdict, count_all,
    flow::{Instruction, Kind},
    number_after, number_before, run,
};
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
    count_all(&instructions(&code), counts);
    Ok(None)
}

/// The instructions of a disassembly, in the order of their addresses.
fn instructions(code: &str) -> Vec<Instruction> {
    let mut labels = HashMap::new();
    let mut waiting = Vec::new();
    let mut parsed = Vec::new();
    for line in code.lines() {
        if let Some(label) = line.trim().strip_suffix(':') {
            waiting.push(label);
        } else if let Some(statement) = Statement::parse(line) {
            labels.extend(waiting.drain(..).map(|label| (label, statement.address)));
            parsed.push(statement);
        }
    }
    let target = |statement: &Statement| labels.get(statement.label()?).copied();
    let instructions = parsed.iter().map(|statement| Instruction {
        address: statement.address,
        kind: statement.kind(),
        target: target(statement),
        leaves: statement.leaves(),
    });
    instructions.collect()
}

/// `/*0a10*/ @!P0 BRA `(.L_x_1) ;`
struct Statement<'a> {
    address: u64,
    predicated: bool,
    /// With its modifiers: `FFMA.FTZ`.
    operation: &'a str,
    operands: &'a str,
}

impl<'a> Statement<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        let (address, rest) = line.trim_start().strip_prefix("/*")?.split_once("*/")?;
        let address = u64::from_str_radix(address, 16).ok()?;
        let rest = rest.trim_start();
        let (predicated, rest) = match rest.strip_prefix('@') {
            Some(rest) => (true, rest.split_once(' ')?.1.trim_start()),
            None => (false, rest),
        };
        let statement = rest.split_once(';')?.0.trim_end();
        let (operation, operands) = statement.split_once(' ').unwrap_or((statement, ""));
        operation
            .starts_with(|c: char| c.is_ascii_uppercase())
            .then_some(Self {
                address,
                predicated,
                operation,
                operands: operands.trim(),
            })
    }

    /// Without its modifiers.
    fn name(&self) -> &str {
        self.operation.split('.').next().unwrap_or(self.operation)
    }

    fn kind(&self) -> Kind {
        match self.name() {
            "HMMA" | "IMMA" | "QMMA" | "HGMMA" | "IGMMA" | "QGMMA" | "UTCHMMA" => Kind::Matrix,
            "FFMA" | "FFMA2" | "HFMA2" => Kind::Fma,
            "BAR" => Kind::Barrier,
            "LDS" | "LDSM" => Kind::SharedLoad,
            "STS" | "STSM" => Kind::SharedStore,
            "LDG" | "LDGSTS" => Kind::GlobalLoad,
            "MUFU" => Kind::Special,
            "SHFL" => Kind::Shuffle,
            "LDL" | "STL" => Kind::Spill,
            _ => Kind::Other,
        }
    }

    /// The label that it may jump to. A subroutine comes back.
    fn label(&self) -> Option<&'a str> {
        let jumps = ["BRA", "BSSY", "JMP"].contains(&self.name());
        let label = self.operands.split_once("`(")?.1;
        jumps.then_some(label.split_once(')')?.0)
    }

    fn leaves(&self) -> bool {
        match self.name() {
            "EXIT" | "RET" | "BRX" => !self.predicated,
            // Some have their condition among the operands.
            "BRA" | "JMP" => !self.predicated && self.operands.starts_with('`'),
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{inspect::flow::hot_loop, table::HotLoop};

    #[test]
    fn an_instruction_is_read_behind_its_address_and_predicate() {
        let read = |line| Statement::parse(line).map(|read| (read.address, read.operation));
        let line = "        /*0a10*/              @!P0 FFMA.FTZ R1, R2, R3, R1 ;";
        assert_eq!(read(line), Some((0xa10, "FFMA.FTZ")));
        assert_eq!(read("        /*0a20*/  EXIT ;"), Some((0xa20, "EXIT")));
        assert_eq!(read(".L_x_1:"), None);
        assert_eq!(read("  /* 0x000fe200000001ff */"), None);
    }

    /// nvdisasm 13.5 of a kernel for sm_90.
    const CODE: &str = "
.text.k:
        /*0070*/                   UMOV UR4, URZ ;
.L_x_0:
        /*0080*/                   LDG.E R0, desc[UR6][R2.64] ;
        /*0090*/                   BAR.SYNC.DEFER_BLOCKING 0x0 ;
        /*00a0*/                   LDSM.16.M88.4 R4, [R0] ;
        /*00b0*/                   HMMA.16816.F32 R4, R8, R12, R4 ;
        /*00c0*/               @P0 BRA `(.L_x_2) ;
.L_x_1:
        /*00d0*/              @!P0 BRA `(.L_x_0) ;
        /*00e0*/                   STG.E desc[UR6][R2.64], R5 ;
        /*00f0*/                   EXIT ;
.L_x_2:
        /*0100*/                   MUFU.EX2 R5, R5 ;
        /*0110*/                   BRA `(.L_x_1);
.L_x_3:
        /*0120*/                   BRA `(.L_x_3);
        /*0130*/                   NOP;
";

    #[test]
    fn a_loop_is_counted_with_what_was_moved_behind_it() {
        let expected = HotLoop {
            instructions: 8,
            matrix: 1,
            barriers: 1,
            shared_loads: 1,
            global_loads: 1,
            special: 1,
            ..HotLoop::default()
        };
        assert_eq!(hot_loop(&instructions(CODE)), Some(expected));
    }

    #[test]
    fn a_jump_with_a_condition_may_go_on() {
        let leaves = |line| Statement::parse(line).map(|statement| statement.leaves());
        assert_eq!(leaves("/*0010*/ BRA `(.L_x_1) ;"), Some(true));
        assert_eq!(leaves("/*0010*/ @P0 BRA `(.L_x_1) ;"), Some(false));
        assert_eq!(leaves("/*0010*/ BRA.U !UP0, `(.L_x_1) ;"), Some(false));
        assert_eq!(leaves("/*0010*/ @P0 EXIT ;"), Some(false));
    }
}
