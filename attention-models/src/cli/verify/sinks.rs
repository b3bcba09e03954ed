//! The golden `attention_sinks`: fla's and gpt-oss' learned sinks.

use anyhow::Result;
use attention_kernels::variants;

use super::{
    composed::{Composed, Given},
    operations::Folder,
};
use crate::ops::try_with_sinks;

/// Causal, in some cases within a window; the sinks are a logit for each query head.
pub fn read(golden: &Folder, name: &str) -> Result<Composed> {
    let tensors = golden.case(name);
    let given = Given::read(&tensors, &["sink"])?;
    let window = tensors.number("window").unwrap_or(u32::MAX);
    Ok(Composed {
        name: name.into(),
        expected: tensors.exact(),
        compute: Box::new(move |device, attention| {
            given.outputs(
                &device.clone().autodiff(),
                |grad| grad,
                |inputs, learned| {
                    let code = variants::causal(0).and(variants::sliding_window(window - 1, 0, 0));
                    let sees = |i: usize, j: usize| j <= i && i - j < window as usize;
                    let attended = attention.to_visible(inputs, code, sees)?;
                    Ok(try_with_sinks(attended, learned[0].clone().flatten(0, 3))?)
                },
            )
        }),
    })
}
