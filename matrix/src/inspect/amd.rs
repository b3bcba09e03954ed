//! AMD code objects, read by LLVM's programs.

use std::{fs, process::Command};

use super::{
    Tools, Verdict, count_all,
    flow::{Instruction, Kind},
    number_after, run,
};
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
    // What a launch adds is not in the object.
    counts.shared_memory = counts.shared_memory.max(field("group_segment_fixed_size"));

    let mut objdump = program("llvm-objdump");
    let (code, _) = run(objdump.args(["-d", "--no-show-raw-insn"]).arg(&object))?;
    count_all(&instructions(&code), counts);
    Ok(None)
}

/// The instructions of a disassembly, in the order of their addresses.
fn instructions(code: &str) -> Vec<Instruction> {
    code.lines().filter_map(instruction).collect()
}

/// `\ts_cbranch_scc1 65123   // 0000000012C4: <kernel+0x10>`
fn instruction(line: &str) -> Option<Instruction> {
    let (statement, comment) = line.strip_prefix('\t')?.split_once("//")?;
    let address = comment.trim_start().split([':', ' ']).next()?.trim_end();
    let address = u64::from_str_radix(address, 16).ok()?;
    let mut words = statement.split_whitespace();
    let operation = words.next().filter(|word| *word != "s_code_end")?;
    // In words from the next instruction, as 16 bits.
    let jump = words.next().and_then(|word| word.parse::<u16>().ok());
    let branches = operation.starts_with("s_cbranch") || operation == "s_branch";
    let target = jump.filter(|_| branches).and_then(|words| {
        let bytes = 4 * i64::from(words.cast_signed());
        (address + 4).checked_add_signed(bytes)
    });
    Some(Instruction {
        address,
        kind: kind(statement),
        target,
        leaves: ["s_branch", "s_endpgm", "s_setpc_b64"].contains(&operation),
    })
}

/// RDNA's `v_dual_fmac_f32 .. :: v_dual_mul_f32 ..` is one instruction.
fn kind(statement: &str) -> Kind {
    let operation = statement.trim_start();
    let begins = |prefixes: &[&str]| prefixes.iter().any(|prefix| operation.starts_with(prefix));
    if begins(&["v_mfma", "v_smfmac", "v_wmma", "v_swmmac"]) {
        Kind::Matrix
    } else if begins(&["v_fma", "v_pk_fma", "v_dot2"]) || operation.contains("v_dual_fma") {
        Kind::Fma
    } else if begins(&["s_barrier"]) && !begins(&["s_barrier_signal"]) {
        Kind::Barrier
    } else if begins(&["ds_load", "ds_read"]) {
        Kind::SharedLoad
    } else if begins(&["ds_store", "ds_write"]) {
        Kind::SharedStore
    } else if begins(&["global_load", "buffer_load", "flat_load"]) {
        Kind::GlobalLoad
    } else if begins(&["v_exp_", "v_log_", "v_rcp_", "v_rsq_", "v_sqrt_"]) {
        Kind::Special
    } else if begins(&["ds_bpermute", "ds_permute", "ds_swizzle", "v_permlane"]) {
        Kind::Shuffle
    } else if begins(&["scratch_"]) {
        Kind::Spill
    } else {
        Kind::Other
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{inspect::flow::hot_loop, table::HotLoop};

    /// llvm-objdump of LLVM 22 for gfx1100.
    const CODE: &str = "
0000000000000000 <kernel>:
\ts_mov_b32 s5, 0                                            // 000000000018: BE850080
\ts_load_b256 s[8:15], s[0:1], null                          // 000000000044: F40C0200 F8000000
\ts_barrier                                                  // 00000000005C: BFBD0000
\tds_load_b128 v[8:11], v2                                   // 000000000060: BF89FC07
\tv_dual_fmac_f32 v8, s8, v1 :: v_dual_mov_b32 v9, s9        // 000000000064: CA100008 08080009
\tv_wmma_f32_16x16x16_f16 v[0:7], v[8:15], v[8:15], v[0:7]   // 000000000088: CC404000 1C021108
\ts_cbranch_scc1 65515                                       // 000000000090: BFA2FFEB <kernel+0x44>
\tglobal_store_b128 v8, v[0:3], s[2:3]                       // 0000000000A4: DC760000 00020008
\ts_endpgm                                                   // 0000000000AC: BFB00000
\ts_code_end                                                 // 0000000000B0: BF9F0000
";

    #[test]
    fn a_branch_back_makes_a_loop_whose_instructions_are_counted() {
        // To where the scalar load begins.
        let code = CODE.replace("65515", "65516");
        let instructions = instructions(&code);
        assert_eq!(instructions.len(), 9);
        let expected = HotLoop {
            instructions: 6,
            matrix: 1,
            fma: 1,
            barriers: 1,
            shared_loads: 1,
            ..HotLoop::default()
        };
        assert_eq!(hot_loop(&instructions), Some(expected));
    }

    #[test]
    fn the_two_halves_of_a_barrier_are_one() {
        assert_eq!(kind("s_barrier_signal -1"), Kind::Other);
        assert_eq!(kind("s_barrier_wait 0xffff"), Kind::Barrier);
    }
}
