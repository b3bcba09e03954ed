//! The golden of PyTorch's FlexAttention: its score modifications and masks as ours.

use std::{collections::BTreeMap, path::Path};

use anyhow::{Context, Result};
use attention_core::{
    AttentionSpec,
    oracle::{Inputs, Tensor4},
};
use attention_kernels::{
    modification::{Captured, Lanes, Place},
    variants,
};
use burn::tensor::{Device, TensorData};
use cubecl::prelude::*;

use super::{
    case::{Case, Outputs},
    operations::four_dimensions,
    variants::{add, floats, integers, show},
};
use crate::{
    models::checkpoint::Weights,
    ops::{AttentionOptions, MaskMod, ScoreMod},
};

/// As the golden's metadata has them.
const WINDOW: u32 = 9;
const PREFIX: u32 = 12;
const SOFTCAP: f64 = 5.0;

/// All of the golden's cases.
const NAMES: [&str; 10] = [
    "alibi",
    "alibi_sliding",
    "causal",
    "dilated",
    "document",
    "gqa_causal",
    "prefix",
    "relbias",
    "sliding",
    "softcap",
];

/// The cases of the golden folder.
pub fn cases(folder: &Path) -> Result<Vec<Case>> {
    let data = Weights::open(&folder.join("io.safetensors"))?.data()?;
    let golden = Golden { data: &data };
    NAMES.iter().map(|name| golden.case(name)).collect()
}

struct Golden<'a> {
    data: &'a BTreeMap<String, TensorData>,
}

impl Golden<'_> {
    fn input(&self, name: &str) -> Result<Tensor4> {
        let data = self.data.get(&format!("in.{name}"));
        let data = data.with_context(|| format!("the golden has no input `in.{name}`"))?;
        Ok(Tensor4::new(
            four_dimensions(data),
            data.iter::<f64>().collect(),
        ))
    }

    /// In float64 where the golden has it.
    fn known(&self, name: &str) -> Outputs {
        let find = |output: &'static str| {
            let exact = self.data.get(&format!("out.{name}.{output}64"));
            let single = self.data.get(&format!("out.{name}"));
            let data = exact.or(single.filter(|_| output == "out"))?;
            Some((output, data.iter::<f64>().collect()))
        };
        ["out", "lse", "dq", "dk", "dv"]
            .into_iter()
            .filter_map(find)
            .collect()
    }

    fn case(&self, name: &str) -> Result<Case> {
        let mut case = Case {
            name: name.into(),
            inputs: Inputs {
                query: self.input("q")?,
                key: self.input("k")?,
                value: self.input("v")?,
                mask: None,
                bias: None,
            },
            spec: AttentionSpec::default(),
            grad_out: self.input("dout")?,
            known: self.known(name),
            code: None,
        };
        if name == "gqa_causal" {
            // The first two of the four heads of keys and values, for two query heads each.
            for tensor in [&mut case.inputs.key, &mut case.inputs.value] {
                let [_, heads, seq, dim] = tensor.shape;
                tensor.shape[1] = heads / 2;
                tensor.data.truncate(heads / 2 * seq * dim);
            }
        }
        let (mask, score) = (self.mask(name, &mut case)?, self.score(name, &mut case)?);
        Ok(case.with_code(move |device| AttentionOptions {
            mask_mod: mask.as_ref().map(|mask| mask(device)),
            score_mod: score.as_ref().map(|score| score(device)),
            ..AttentionOptions::default()
        }))
    }

    fn mask(&self, name: &str, case: &mut Case) -> Result<Option<OnDevice<MaskMod>>> {
        let window = |i: usize, j: usize| j <= i && i - j < WINDOW as usize;
        Ok(match name {
            "causal" | "gqa_causal" => {
                show(case, |[_, _, i, j]| j <= i);
                Some(Box::new(|_| variants::causal(0)))
            }
            "sliding" | "alibi_sliding" => {
                show(case, |[_, _, i, j]| window(i, j));
                Some(Box::new(|_| variants::sliding_window(WINDOW - 1, 0, 0)))
            }
            "prefix" => {
                show(case, |[_, _, i, j]| j <= i || j < PREFIX as usize);
                Some(Box::new(|device| {
                    variants::prefix_lm(integers(&[PREFIX as i32], device))
                }))
            }
            "document" => {
                let documents: Vec<i32> = self
                    .input("doc")?
                    .data
                    .iter()
                    .map(|document| *document as i32)
                    .collect();
                show(case, |[_, _, i, j]| j <= i && documents[i] == documents[j]);
                Some(Box::new(move |device| {
                    let documents = integers(&documents, device);
                    variants::same_document(documents.clone(), documents).and(variants::causal(0))
                }))
            }
            "dilated" => {
                show(case, |[_, _, i, j]| i.abs_diff(j) % 4 == 0);
                Some(Box::new(|_| variants::strided(4)))
            }
            _ => None,
        })
    }

    fn score(&self, name: &str, case: &mut Case) -> Result<Option<OnDevice<ScoreMod>>> {
        Ok(match name {
            "alibi" | "alibi_sliding" => {
                let slopes = self.input("alibi_slopes")?.data;
                add(case, |[_, head, i, j]| -slopes[head] * i.abs_diff(j) as f64);
                Some(Box::new(move |device| {
                    variants::alibi(floats(&slopes, device), 0)
                }))
            }
            "relbias" => {
                let table = self.input("relbias")?;
                let (length, table) = (table.shape[3], table.data);
                add(case, |[_, head, i, j]| {
                    table[head * length + i + length / 2 - j]
                });
                Some(Box::new(move |device| {
                    ScoreMod::additive(of_offset::expand)
                        .with_floats(floats(&table, device))
                        .with_count(length as u32)
                }))
            }
            "softcap" => {
                case.spec = case.spec.with_softcap(SOFTCAP);
                Some(Box::new(|_| variants::softcap(SOFTCAP as f32)))
            }
            _ => None,
        })
    }
}

/// Code made on a device.
type OnDevice<T> = Box<dyn Fn(&Device) -> T + Send + Sync>;

/// A weight for each head and offset from `-length / 2` on.
#[cube]
fn of_offset(at: &Place, captured: &Captured) -> Vector<f32, Lanes> {
    let length = captured.count(0usize);
    let of_head = Vector::<u32, Lanes>::new(at.head * length + length / 2);
    captured.floats(0usize, of_head + at.query - at.key)
}
