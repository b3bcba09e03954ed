//! The golden `dropout_given_mask`: probabilities that a given mask keeps, scaled up.

use anyhow::Result;
use attention_core::DType;
use attention_kernels::variants;
use burn::tensor::activation::softmax;

use super::{
    composed::{Attention, Composed, Given},
    operations::Folder,
    run::upload,
    variants::integers,
};
use crate::ops::{AttentionOptions, try_attention_with_lse};

/// `out = (p * keep / (1 - rate)) v`; the log-sum-exp is that of the undropped scores.
pub fn read(golden: &Folder, name: &str) -> Result<Composed> {
    let tensors = golden.case(name);
    let given = Given::read(&tensors, &[])?;
    let keep = tensors.input("keep")?;
    let rate = tensors.float("rate")?;
    Ok(Composed {
        name: name.into(),
        expected: tensors.exact(),
        compute: Box::new(move |device, attention| {
            let device = device.clone().autodiff();
            given.outputs(
                &device,
                |grad| grad,
                |[query, key, value], _| {
                    Ok(match attention {
                        Attention::Fused => {
                            let kept: Vec<_> = keep.data.iter().map(|&kept| kept as i32).collect();
                            let shape = keep.shape.map(|size| size as u32);
                            let kept = integers(&kept, &device);
                            let dropout = variants::given_dropout(rate, kept, shape)?;
                            let options = AttentionOptions::default().with_weight_mod(dropout);
                            try_attention_with_lse(query, key, value, options)?
                        }
                        Attention::Unfused => {
                            let width = query.dims()[3] as f64;
                            let scores = query.matmul(key.swap_dims(2, 3)) / width.sqrt();
                            let lse = scores.clone().exp().sum_dim(3).log().squeeze_dim::<3>(3);
                            let kept = upload(&keep, DType::F32, &device) / (1.0 - rate);
                            ((softmax(scores, 3) * kept).matmul(value), lse)
                        }
                    })
                },
            )
        }),
    })
}
