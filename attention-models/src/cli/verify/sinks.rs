//! The golden `attention_sinks`: fla's and gpt-oss' learned sinks.

use anyhow::Result;
use attention_core::{DType, oracle::Tensor4};
use attention_kernels::variants;

use super::{
    composed::Composed,
    operations::Folder,
    run::{floats, gradient, upload},
};
use crate::ops::try_with_sinks;

/// Causal, in some cases within a window; the sinks are a logit for each query head.
pub fn read(golden: &Folder, name: &str) -> Result<Composed> {
    let tensors = golden.case(name);
    let inputs = [
        tensors.input("q")?,
        tensors.input("k")?,
        tensors.input("v")?,
    ];
    let (sinks, grad_out) = (tensors.input("sink")?, tensors.input("d_out")?);
    let window = tensors.number("window").unwrap_or(u32::MAX);
    Ok(Composed {
        name: name.into(),
        expected: tensors.exact(),
        compute: Box::new(move |device, attention| {
            let device = device.clone().autodiff();
            let tracked = |input: &Tensor4| upload(input, DType::F32, &device).require_grad();
            let [query, key, value] = inputs.each_ref().map(tracked);
            let sinks = tracked(&sinks);
            let code = variants::causal(0).and(variants::sliding_window(window - 1, 0, 0));
            let attended = attention.to_visible(
                [query.clone(), key.clone(), value.clone()],
                code,
                |i, j| j <= i && i - j < window as usize,
            )?;
            let (out, lse) = try_with_sinks(attended, sinks.clone().flatten(0, 3))?;
            let loss = out.clone() * upload(&grad_out, DType::F32, &device);
            let gradients = loss.sum().backward();
            Ok(vec![
                ("out".into(), floats(out)),
                ("lse".into(), floats(lse)),
                ("dq".into(), gradient(&query, &gradients)?),
                ("dk".into(), gradient(&key, &gradients)?),
                ("dv".into(), gradient(&value, &gradients)?),
                ("dsink".into(), gradient(&sinks, &gradients)?),
            ])
        }),
    })
}
