//! Goldens of attention alone: torch's `scaled_dot_product_attention` and its variants.
//!
//! Masks there say who takes part; here they say who does not.

use std::{collections::BTreeMap, fs, path::Path};

use anyhow::{Context, Result, ensure};
use attention_core::{
    AttentionSpec, CausalAlignment,
    oracle::{Inputs, Mask4, Tensor4},
};
use burn::tensor::TensorData;
use serde_json::Value;

use super::{
    case::{Case, Outputs},
    variants,
};
use crate::models::checkpoint::Weights;

/// Fills in what the names of a golden's tensors do not say: options, masks, biases.
pub type Reader = fn(&Tensors, &mut Case) -> Result<()>;

/// How the golden of this name is read.
pub fn reader(name: &str) -> Option<Reader> {
    match name {
        "op_sdpa" => Some(scaled_dot_product),
        "causal_alignment" => Some(causal_alignment),
        "softcap" => Some(softcap),
        "fully_masked_rows" => Some(fully_masked_rows),
        _ => variants::reader(name),
    }
}

/// The cases of a golden folder.
pub fn cases(folder: &Path, read: Reader) -> Result<Vec<Case>> {
    let golden = Folder::open(folder)?;
    let names: Vec<_> = golden
        .data
        .keys()
        .filter_map(|name| Some(name.strip_prefix("in.")?.strip_suffix(".q")?.to_string()))
        .collect();
    ensure!(!names.is_empty(), "the golden has no input `in.*.q`");
    let cases = names.into_iter().map(|name| {
        let tensors = golden.case(&name);
        let mut case = tensors.case()?;
        read(&tensors, &mut case).with_context(|| format!("case `{name}`"))?;
        Ok(case)
    });
    cases.collect()
}

/// What a golden folder holds.
pub struct Folder {
    data: BTreeMap<String, TensorData>,
    meta: Value,
}

impl Folder {
    /// Reads `io.safetensors` and, where there is one, `meta.json`.
    pub fn open(folder: &Path) -> Result<Self> {
        let meta = folder.join("meta.json");
        let meta = match fs::read(&meta) {
            Ok(text) => serde_json::from_slice(&text)
                .with_context(|| format!("`{}` is not JSON", meta.display()))?,
            Err(_) => Value::Null,
        };
        Ok(Self {
            data: Weights::open(&folder.join("io.safetensors"))?.data()?,
            meta,
        })
    }

    /// The cases that `meta.json` lists.
    pub fn names(&self) -> Vec<String> {
        let cases = self.meta["cases"].as_object();
        cases.map_or_else(Vec::new, |cases| cases.keys().cloned().collect())
    }

    /// One of the cases.
    pub fn case<'a>(&'a self, name: &'a str) -> Tensors<'a> {
        Tensors {
            data: &self.data,
            case: name,
            meta: &self.meta["cases"][name],
        }
    }
}

/// The tensors of one case: `in.CASE.*` and `out.CASE.*`.
pub struct Tensors<'a> {
    data: &'a BTreeMap<String, TensorData>,
    case: &'a str,
    meta: &'a Value,
}

impl Tensors<'_> {
    fn find(&self, side: &str, name: &str) -> Option<&TensorData> {
        self.data.get(&format!("{side}.{}.{name}", self.case))
    }

    /// A number that `meta.json` has for the case.
    pub fn number(&self, name: &str) -> Result<u32> {
        let number = self.meta[name].as_u64().and_then(|n| n.try_into().ok());
        number.with_context(|| format!("`meta.json` has no number `{name}` for the case"))
    }

    /// A number that need not be whole, of the case in `meta.json`.
    pub fn float(&self, name: &str) -> Result<f64> {
        let number = self.meta[name].as_f64();
        number.with_context(|| format!("`meta.json` has no number `{name}` for the case"))
    }

    /// Whether `meta.json` says so of the case.
    pub fn flag(&self, name: &str) -> bool {
        self.meta[name].as_bool() == Some(true)
    }

    /// The integers of an input.
    pub fn integers(&self, name: &str) -> Result<Vec<i32>> {
        let data = self.find("in", name);
        let data = data.with_context(|| format!("the golden has no input `{name}`"))?;
        Ok(data.iter::<i32>().collect())
    }

    /// The integers of an output.
    pub fn known_integers(&self, name: &str) -> Result<Vec<i32>> {
        let data = self.find("out", name);
        let data = data.with_context(|| format!("the golden has no output `{name}`"))?;
        Ok(data.iter::<i32>().collect())
    }

    /// The numbers that `meta.json` lists for the case, if any.
    pub fn numbers(&self, name: &str) -> Vec<u64> {
        let list = self.meta[name].as_array().into_iter().flatten();
        list.filter_map(Value::as_u64).collect()
    }

    pub fn input(&self, name: &str) -> Result<Tensor4> {
        let data = self
            .find("in", name)
            .with_context(|| format!("the golden has no input `in.{}.{name}`", self.case))?;
        Ok(Tensor4::new(
            four_dimensions(data),
            data.iter::<f64>().collect(),
        ))
    }

    pub fn mask(&self, name: &str) -> Result<Mask4> {
        let takes_part = self.input(name)?;
        let hidden = takes_part.data.iter().map(|value| *value == 0.0);
        Ok(Mask4::new(takes_part.shape, hidden.collect()))
    }

    /// Every output that the golden has in float64.
    pub fn exact(&self) -> Vec<(String, Vec<f64>)> {
        let prefix = format!("out.{}.", self.case);
        let outputs = self.data.iter().filter_map(|(name, data)| {
            let name = name.strip_prefix(&prefix)?.strip_suffix("64")?;
            Some((name.to_string(), data.iter::<f64>().collect()))
        });
        outputs.collect()
    }

    /// In float64 where the golden has it.
    fn outputs(&self) -> Outputs {
        ["out", "lse", "dq", "dk", "dv"]
            .into_iter()
            .filter_map(|name| {
                let exact = self.find("out", &format!("{name}64"));
                let data = exact.or_else(|| self.find("out", name))?;
                Some((name, data.iter::<f64>().collect()))
            })
            .collect()
    }

    fn case(&self) -> Result<Case> {
        Ok(Case {
            name: self.case.to_string(),
            inputs: Inputs {
                query: self.input("q")?,
                key: self.input("k")?,
                value: self.input("v")?,
                mask: None,
                bias: None,
            },
            spec: AttentionSpec::default(),
            grad_out: self.input("dout").or_else(|_| self.input("d_out"))?,
            known: self.outputs(),
            code: None,
        })
    }
}

/// Dimensions of 1 in front.
pub fn four_dimensions(data: &TensorData) -> [usize; 4] {
    let shape: Vec<usize> = data.shape().iter().copied().collect();
    let mut four = [1; 4];
    four[4 - shape.len()..].copy_from_slice(&shape);
    four
}

fn scaled_dot_product(tensors: &Tensors, case: &mut Case) -> Result<()> {
    match case.name.as_str() {
        "causal" | "mqa_causal" => case.spec = case.spec.with_causal(CausalAlignment::TopLeft),
        "scale" => case.spec = case.spec.with_scale(0.3),
        "boolmask" => case.inputs.mask = Some(tensors.mask("attn_mask")?),
        "bias" => case.inputs.bias = Some(tensors.input("attn_mask")?),
        _ => {}
    }
    Ok(())
}

fn causal_alignment(tensors: &Tensors, case: &mut Case) -> Result<()> {
    if case.name.contains("window") {
        case.inputs.mask = Some(tensors.mask("mask")?);
    } else if case.name.starts_with("top_left") {
        case.spec = case.spec.with_causal(CausalAlignment::TopLeft);
    } else {
        case.spec = case.spec.with_causal(CausalAlignment::BottomRight);
    }
    Ok(())
}

/// The caps and which cases are causal, as the golden's `meta.json` has them.
fn softcap(_: &Tensors, case: &mut Case) -> Result<()> {
    let spec = AttentionSpec::default();
    case.spec = match case.name.as_str() {
        "c0" => spec.with_softcap(2.0).with_causal(CausalAlignment::TopLeft),
        "c1" => spec.with_softcap(5.0),
        "c2" => spec.with_softcap(3.0).with_causal(CausalAlignment::TopLeft),
        other => anyhow::bail!("case `{other}` is not known here"),
    };
    Ok(())
}

fn fully_masked_rows(tensors: &Tensors, case: &mut Case) -> Result<()> {
    case.inputs.mask = Some(tensors.mask("mask")?);
    Ok(())
}
