//! The golden `varlen_packed`: sequences one after the other, each on its own.

use anyhow::Result;
use attention_core::{CausalAlignment, oracle::Mask4};
use burn::tensor::Tensor;

use super::{
    composed::{Attention, Composed, Given},
    operations::Folder,
    run::upload_mask,
};
use crate::ops::{
    AttentionOptions, PackedSequences, composition::unfused_attention, try_attention_packed,
};

/// Tensors are `[total, heads, dim]`, the log-sum-exp `[heads, total]`; causality is bottom-right in each
/// sequence.
pub fn read(golden: &Folder, name: &str) -> Result<Composed> {
    let tensors = golden.case(name);
    let given = Given::read(&tensors, &[])?;
    let ends = |name| {
        let ends = tensors.integers(name)?.into_iter();
        Ok::<Vec<usize>, anyhow::Error>(ends.map(|end| end as usize).collect())
    };
    let (of_queries, of_keys) = (ends("cu_q")?, ends("cu_k")?);
    let causal = tensors
        .flag("causal")
        .then_some(CausalAlignment::BottomRight);
    Ok(Composed {
        name: name.into(),
        expected: tensors.exact(),
        compute: Box::new(move |device, attention| {
            let device = device.clone().autodiff();
            let without_batch = |tensor: Tensor<4>| tensor.squeeze_dim::<3>(0);
            given.outputs(&device, without_batch, |inputs, _| {
                let [query, key, value] = inputs.map(without_batch);
                Ok(match attention {
                    Attention::Fused => {
                        let sequences =
                            PackedSequences::try_new(&of_queries, &of_keys, causal, &device)?;
                        let options = AttentionOptions::default();
                        try_attention_packed(query, key, value, &sequences, options)?
                    }
                    Attention::Unfused => {
                        let mask = hidden(&of_queries, &of_keys, causal.is_some());
                        let options =
                            AttentionOptions::default().with_mask(upload_mask(&mask, &device));
                        let batched = [query, key, value]
                            .map(|input| input.unsqueeze_dim::<4>(0).swap_dims(1, 2));
                        let [query, key, value] = batched;
                        let (out, lse) = unfused_attention(query, key, value, options)?;
                        (out.swap_dims(1, 2).squeeze_dim(0), lse.squeeze_dim::<2>(0))
                    }
                })
            })
        }),
    })
}

/// The dense mask of the sequences.
fn hidden(of_queries: &[usize], of_keys: &[usize], causal: bool) -> Mask4 {
    let total = |ends: &[usize]| ends.last().copied().unwrap_or(0);
    let (rows, keys) = (total(of_queries), total(of_keys));
    let mut hidden = vec![true; rows * keys];
    for (q, kv) in of_queries.windows(2).zip(of_keys.windows(2)) {
        for i in q[0]..q[1] {
            for j in kv[0]..kv[1] {
                hidden[i * keys + j] = causal && j + q[1] > i + kv[1];
            }
        }
    }
    Mask4::new([1, 1, rows, keys], hidden)
}
