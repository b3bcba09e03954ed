//! Goldens of operations that are made of attention, in float64: ours is compared with them, and
//! bounded by the same operation made of Burn's own.

use std::path::Path;

use anyhow::Result;
use attention_core::{
    DType,
    oracle::{Mask4, Tensor4},
};
use burn::tensor::{Device, Tensor};

use super::{
    bound::{Devices, bound, distance, largest},
    differential, dropout,
    operations::{Folder, Tensors},
    packed, rope,
    run::{dtype_name, floats, gradient, upload, upload_mask},
    sinks, split,
};
use crate::{
    cli::verify_models::Row,
    ops::{
        Attended, AttentionOptions, MaskMod, composition::unfused_attention, try_attention_with_lse,
    },
};

/// Outputs and gradients by name.
pub type Named = Vec<(String, Vec<f64>)>;

/// One case: what it gives, and how it is computed.
pub struct Composed {
    /// The case's name.
    pub name: String,
    /// In float64.
    pub expected: Named,
    /// Computes at least what is expected, in f32.
    pub compute: Box<Compute>,
}

/// An operation over either attention, on a device.
pub type Compute = dyn Fn(&Device, Attention) -> Result<Named>;

/// How a golden's case is read.
pub type Reader = fn(&Folder, &str) -> Result<Composed>;

/// Whose attention an operation is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attention {
    /// Ours.
    Fused,
    /// Of Burn's own operations.
    Unfused,
}

/// How the golden of this name is read.
pub fn reader(name: &str) -> Option<Reader> {
    match name {
        "attention_sinks" => Some(sinks::read),
        "split_kv_ring" => Some(split::read),
        "differential_attention" => Some(differential::read),
        "dropout_given_mask" => Some(dropout::read),
        "rope" => Some(rope::read),
        "varlen_packed" => Some(packed::read),
        _ => None,
    }
}

/// The cases of a golden folder.
pub fn checks(folder: &Path, read: Reader) -> Result<Vec<Composed>> {
    let golden = Folder::open(folder)?;
    let names = golden.names();
    anyhow::ensure!(!names.is_empty(), "`meta.json` lists no cases");
    names.iter().map(|name| read(&golden, name)).collect()
}

impl Composed {
    /// Compares every expected output.
    pub fn run_on(&self, devices: Devices<'_>) -> Result<Vec<Row>> {
        let ours = (self.compute)(devices.ours, Attention::Fused)?;
        let unfused = (self.compute)(devices.unfused, Attention::Unfused)?;
        let error = |outputs: &Named, (name, expected): &(String, Vec<f64>)| {
            // What is missing is infinitely far away.
            let output = outputs.iter().find(|(other, _)| other == name);
            distance(output.map_or(&[], |(_, values)| values), expected)
        };
        let row = |expected: &(String, Vec<f64>)| {
            let peer = error(&unfused, expected);
            Row {
                name: expected.0.clone(),
                dtype: dtype_name(DType::F32),
                worst_error: error(&ours, expected),
                bound: bound(peer, DType::F32, largest(&expected.1)),
            }
        };
        Ok(self.expected.iter().map(row).collect())
    }
}

/// The inputs of a golden's case, the gradients that its outputs receive, and what is learned.
pub struct Given {
    inputs: [Tensor4; 3],
    grad_out: Tensor4,
    learned: Vec<(&'static str, Tensor4)>,
}

impl Given {
    /// `q`, `k`, `v`, `d_out`, and `learned` inputs of these names.
    pub fn read(tensors: &Tensors, learned: &[&'static str]) -> Result<Self> {
        let learned = learned.iter().map(|&name| Ok((name, tensors.input(name)?)));
        Ok(Self {
            inputs: [
                tensors.input("q")?,
                tensors.input("k")?,
                tensors.input("v")?,
            ],
            grad_out: tensors.input("d_out")?,
            learned: learned.collect::<Result<_>>()?,
        })
    }

    /// What `attend` gives of the inputs and of what is learned, and their gradients. `grad_out` makes
    /// the output's gradient fit the output.
    pub fn outputs<const D: usize, const L: usize>(
        &self,
        device: &Device,
        grad_out: impl FnOnce(Tensor<4>) -> Tensor<D>,
        attend: impl FnOnce([Tensor<4>; 3], &[Tensor<4>]) -> Result<(Tensor<D>, Tensor<L>)>,
    ) -> Result<Named> {
        let tracked = |input: &Tensor4| upload(input, DType::F32, device).require_grad();
        let inputs = self.inputs.each_ref().map(tracked);
        let learned: Vec<_> = self
            .learned
            .iter()
            .map(|(_, input)| tracked(input))
            .collect();
        let (out, lse) = attend(inputs.clone(), &learned)?;
        let loss = out.clone() * grad_out(upload(&self.grad_out, DType::F32, device));
        let gradients = loss.sum().backward();
        let mut outputs: Named = vec![("out".into(), floats(out)), ("lse".into(), floats(lse))];
        let names = self.learned.iter().map(|(name, _)| *name);
        for (name, input) in ["q", "k", "v"]
            .into_iter()
            .chain(names)
            .zip(inputs.iter().chain(&learned))
        {
            outputs.push((format!("d{name}"), gradient(input, &gradients)?));
        }
        Ok(outputs)
    }
}

impl Attention {
    /// Attention to the keys that `visible` shows to each query: ours gets that as `code`.
    pub fn to_visible(
        self,
        [query, key, value]: [Tensor<4>; 3],
        code: MaskMod,
        visible: impl Fn(usize, usize) -> bool,
    ) -> Result<Attended> {
        let attended = match self {
            Self::Fused => {
                let options = AttentionOptions::default().with_mask_mod(code);
                try_attention_with_lse(query, key, value, options)
            }
            Self::Unfused => {
                let (rows, keys) = (query.dims()[2], key.dims()[2]);
                let hidden = (0..rows * keys).map(|n| !visible(n / keys, n % keys));
                let mask = Mask4::new([1, 1, rows, keys], hidden.collect());
                let mask = upload_mask(&mask, &query.device());
                let options = AttentionOptions::default().with_mask(mask);
                unfused_attention(query, key, value, options)
            }
        };
        Ok(attended?)
    }
}
