//! The golden `dropout_given_mask`: probabilities that a given mask keeps, scaled up.

use anyhow::Result;
use attention_core::{DType, oracle::Tensor4};
use attention_kernels::variants;
use burn::tensor::activation::softmax;

use super::{
    composed::{Attention, Composed},
    operations::Folder,
    run::{floats, gradient, upload},
    variants::integers,
};
use crate::ops::{AttentionOptions, try_attention_with_lse};

/// `out = (p * keep / (1 - rate)) v`; the log-sum-exp is that of the undropped scores.
pub fn read(golden: &Folder, name: &str) -> Result<Composed> {
    let tensors = golden.case(name);
    let inputs = [
        tensors.input("q")?,
        tensors.input("k")?,
        tensors.input("v")?,
    ];
    let (keep, grad_out) = (tensors.input("keep")?, tensors.input("d_out")?);
    let rate = tensors.float("rate")?;
    Ok(Composed {
        name: name.into(),
        expected: tensors.exact(),
        compute: Box::new(move |device, attention| {
            let device = device.clone().autodiff();
            let tracked = |input: &Tensor4| upload(input, DType::F32, &device).require_grad();
            let [query, key, value] = inputs.each_ref().map(tracked);
            let (out, lse) = match attention {
                Attention::Fused => {
                    let kept: Vec<_> = keep.data.iter().map(|&kept| kept as i32).collect();
                    let shape = keep.shape.map(|size| size as u32);
                    let kept = integers(&kept, &device);
                    let dropout = variants::given_dropout(rate, kept, shape)?;
                    let options = AttentionOptions::default().with_weight_mod(dropout);
                    try_attention_with_lse(query.clone(), key.clone(), value.clone(), options)?
                }
                Attention::Unfused => {
                    let width = query.dims()[3] as f64;
                    let scores = query.clone().matmul(key.clone().swap_dims(2, 3));
                    let scores = scores / width.sqrt();
                    let lse = scores.clone().exp().sum_dim(3).log().squeeze_dim::<3>(3);
                    let kept = upload(&keep, DType::F32, &device) / (1.0 - rate);
                    ((softmax(scores, 3) * kept).matmul(value.clone()), lse)
                }
            };
            let loss = out.clone() * upload(&grad_out, DType::F32, &device);
            let gradients = loss.sum().backward();
            Ok(vec![
                ("out".into(), floats(out)),
                ("lse".into(), floats(lse)),
                ("dq".into(), gradient(&query, &gradients)?),
                ("dk".into(), gradient(&key, &gradients)?),
                ("dv".into(), gradient(&value, &gradients)?),
            ])
        }),
    })
}
