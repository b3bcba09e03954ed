//! What compilers made of hot loops, from `matrix.json` of the compile matrix.

use std::{collections::HashMap, fs, path::Path};

use anyhow::{Context, Result};
use attention_core::roofline::{DeviceRoofs, LoopMix, Work};
use serde::Deserialize;

/// By target, case and step: what a kernel is called after the name of its engine. Loops without matrix instructions are
/// not kept: those of other engines are not what is predicted.
#[derive(Default)]
pub struct Mixes(HashMap<[String; 3], LoopMix>);

#[derive(Deserialize)]
struct Row {
    target: String,
    case: String,
    kernel: String,
    hot_loop: Option<HotLoop>,
}

#[derive(Deserialize)]
struct HotLoop {
    instructions: u64,
    matrix: u64,
}

impl Mixes {
    /// # Errors
    /// A file that is not the compile matrix'. One that has no hot loops gives no mixes.
    pub fn read(file: &Path) -> Result<Self> {
        let text = fs::read_to_string(file).with_context(|| file.display().to_string())?;
        let rows: Vec<Row> = serde_json::from_str(&text)
            .with_context(|| format!("`{}` is not the compile matrix'", file.display()))?;
        let mix = |row: Row| {
            let HotLoop {
                instructions,
                matrix,
            } = row.hot_loop.filter(|hot_loop| hot_loop.matrix > 0)?;
            let mix = LoopMix {
                instructions,
                matrix,
            };
            let (_engine, step) = row.kernel.split_once('_')?;
            Some(([row.target, row.case, step.to_string()], mix))
        };
        Ok(Self(rows.into_iter().filter_map(mix).collect()))
    }

    /// Of a kernel on a device.
    pub fn of(
        &self,
        device: &DeviceRoofs,
        work: &Work,
        head_dim: usize,
        causal: bool,
    ) -> Option<LoopMix> {
        let causal = if causal { "-causal" } else { "" };
        let case = format!("measured/d{head_dim}{causal}/{}", work.dtype);
        let key = [device.target?.to_string(), case, work.kernel.to_string()];
        self.0.get(&key).copied()
    }

    /// How many loops are known.
    pub fn len(&self) -> usize {
        self.0.len()
    }
}

#[cfg(test)]
mod tests {
    use attention_core::{
        AttentionProblem, AttentionSpec, DType,
        roofline::{DEVICES, forward_work},
    };

    use super::*;

    #[test]
    fn a_kernels_mix_is_that_of_its_target_case_and_step() {
        let folder = tempfile::tempdir().expect("there is room for a folder");
        let file = folder.path().join("matrix.json");
        let text = r#"[
{"target":"sm_90a","case":"measured/d128/f16","kernel":"matrix_forward","outcome":"compiled",
 "hot_loop":{"instructions":200,"matrix":64}},
{"target":"sm_90a","case":"measured/d64/f16","kernel":"attention_backward_key","outcome":"compiled",
 "hot_loop":{"instructions":900,"matrix":0}},
{"target":"sm_90a","case":"measured/d64/f16","kernel":"attention_forward","outcome":"compiled"}
]"#;
        fs::write(&file, text).expect("the folder can be written");
        let mixes = Mixes::read(&file).expect("it is the compile matrix'");
        let problem = AttentionProblem {
            batch: 1,
            heads: 1,
            kv_heads: 1,
            value_heads: 1,
            seq_q: 64,
            seq_kv: 64,
            head_dim: 128,
            value_dim: 128,
        };
        let work = forward_work(&problem, &AttentionSpec::default(), DType::F16);
        let mix = mixes.of(&DEVICES[0], &work, 128, false);
        assert_eq!(
            mix,
            Some(LoopMix {
                instructions: 200,
                matrix: 64
            })
        );
        assert_eq!(mixes.of(&DEVICES[0], &work, 64, false), None);
        assert_eq!(mixes.of(&DEVICES[0], &work, 128, true), None);
        assert_eq!(mixes.len(), 1);
    }
}
