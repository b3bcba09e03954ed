//! The golden `split_kv_ring`: causal attention whole, over split keys, and around a zigzag ring.

use anyhow::{Context, Result};
use attention_core::{DType, oracle::Tensor4};
use attention_kernels::modification::{Captured, Lanes, Place};
use burn::tensor::{Device, Tensor};
use cubecl::prelude::*;

use super::{
    composed::{Attention, Composed, Named},
    operations::{Folder, Tensors},
    run::{floats, gradient, upload},
    variants::integers,
};
use crate::ops::{Attended, MaskMod, try_merge};

/// The queries of every rank meet the keys of every block; both are lists of positions.
struct Split {
    inputs: [Tensor4; 3],
    grad_out: Tensor4,
    ranks: Vec<Vec<i32>>,
    blocks: Vec<Vec<i32>>,
}

/// `full_C` has the inputs and gradients of `split_C` and `zigzag_C` too.
pub fn read(golden: &Folder, name: &str) -> Result<Composed> {
    let (kind, case) = name.split_once('_').context("the case has no kind")?;
    let whole = format!("full_{case}");
    let whole = golden.case(&whole);
    let tensors = golden.case(name);
    let inputs = [whole.input("q")?, whole.input("k")?, whole.input("v")?];
    let all: Vec<i32> = (0..inputs[0].shape[2] as i32).collect();
    let (ranks, blocks) = match kind {
        "full" => (vec![all.clone()], vec![all]),
        "split" => (vec![all.clone()], parts(&tensors, &all)),
        _ => {
            let world = tensors.number("world")?;
            let ranks = (0..world).map(|rank| tensors.integers(&format!("positions_{rank}")));
            let ranks = ranks.collect::<Result<Vec<_>>>()?;
            (ranks.clone(), ranks)
        }
    };
    let mut expected = tensors.exact();
    if kind != "full" {
        let gradients = ["dq", "dk", "dv"];
        let of_whole = whole.exact().into_iter();
        expected.extend(of_whole.filter(|(name, _)| gradients.contains(&name.as_str())));
    }
    let split = Split {
        inputs,
        grad_out: whole.input("d_out")?,
        ranks,
        blocks,
    };
    Ok(Composed {
        name: name.into(),
        expected,
        compute: Box::new(move |device, attention| split.compute(device, attention)),
    })
}

/// The keys between the cuts.
fn parts(tensors: &Tensors, all: &[i32]) -> Vec<Vec<i32>> {
    let cuts = tensors.numbers("cuts");
    let part = |cut: &[u64]| all[cut[0] as usize..cut[1] as usize].to_vec();
    cuts.windows(2).map(part).collect()
}

impl Split {
    fn compute(&self, device: &Device, attention: Attention) -> Result<Named> {
        let device = device.clone().autodiff();
        let tracked = |input: &Tensor4| upload(input, DType::F32, &device).require_grad();
        let [query, key, value] = self.inputs.each_ref().map(tracked);
        let grad_out = upload(&self.grad_out, DType::F32, &device);
        let at = |tensor: &Tensor<4>, positions: &[i32]| {
            tensor.clone().select(2, integers(positions, &device))
        };

        let mut outputs = Named::new();
        let mut loss = Tensor::<1>::zeros([1], &device);
        for (r, rank) in self.ranks.iter().enumerate() {
            let ring = self.ranks.len() > 1;
            let mut merged: Option<Attended> = None;
            for (b, block) in self.blocks.iter().enumerate() {
                let code = MaskMod::new(not_after::expand)
                    .with_integers(integers(rank, &device))
                    .with_integers(integers(block, &device));
                let part = attention.to_visible(
                    [at(&query, rank), at(&key, block), at(&value, block)],
                    code,
                    |i, j| block[j] <= rank[i],
                )?;
                let name = if ring {
                    format!("{r}_from_{b}")
                } else {
                    b.to_string()
                };
                outputs.push((format!("o_{name}"), floats(part.0.clone())));
                outputs.push((format!("lse_{name}"), floats(part.1.clone())));
                merged = Some(match merged {
                    None => part,
                    Some(before) => try_merge(before, part)?,
                });
            }
            let (out, lse) = merged.context("there are no keys")?;
            let suffix = if ring { format!("_{r}") } else { String::new() };
            outputs.push((format!("out{suffix}"), floats(out.clone())));
            outputs.push((format!("lse{suffix}"), floats(lse)));
            loss = loss + (out * at(&grad_out, rank)).sum();
        }
        let gradients = loss.backward();
        outputs.push(("dq".into(), gradient(&query, &gradients)?));
        outputs.push(("dk".into(), gradient(&key, &gradients)?));
        outputs.push(("dv".into(), gradient(&value, &gradients)?));
        Ok(outputs)
    }
}

/// Queries see the keys up to their own position, wherever either lies.
#[cube]
fn not_after(at: &Place, captured: &Captured) -> Vector<bool, Lanes> {
    let query = captured.integers(0usize, at.query);
    captured.integers(1usize, at.key).less_equal(&query)
}
