//! The golden `differential_attention`: DiffLlama's core, and its norm after it.

use anyhow::Result;
use attention_core::{AttentionSpec, CausalAlignment, DType, oracle::Tensor4};
use burn::tensor::{Device, Tensor};

use super::{
    composed::{Attention, Composed, Named},
    operations::Folder,
    run::{floats, gradient, upload},
};
use crate::{
    nn::{DifferentialAttention, DifferentialAttentionConfig},
    ops::{AttentionOptions, composition::unfused_attention, try_differential_attention},
};

/// The inputs, in the order in which the golden's gradients are computed here.
const INPUTS: [&str; 6] = ["q1", "q2", "k1", "k2", "v", "lam"];

/// `core` is the operation, `out` the module's norm of it.
pub fn read(golden: &Folder, name: &str) -> Result<Composed> {
    let tensors = golden.case(name);
    let inputs = INPUTS.map(|input| tensors.input(input));
    let inputs = inputs.into_iter().collect::<Result<Vec<_>>>()?;
    let grads = [tensors.input("d_core")?, tensors.input("d_out")?];
    let lambda_init = tensors.float("lambda_init")?;
    let mut spec = AttentionSpec::default();
    if name.starts_with("causal") {
        spec = spec.with_causal(CausalAlignment::TopLeft);
    }
    Ok(Composed {
        name: name.into(),
        expected: tensors.exact(),
        compute: Box::new(move |device, attention| {
            let module = module(lambda_init, device);
            compute(&inputs, &grads, spec, &module, device, attention)
        }),
    })
}

/// For its norm: nothing in it depends on the weights.
fn module(lambda_init: f64, device: &Device) -> DifferentialAttention {
    let module = DifferentialAttentionConfig::new(2, 1, 0).init(device);
    DifferentialAttention {
        lambda_init,
        ..module
    }
}

fn compute(
    inputs: &[Tensor4],
    [grad_core, grad_out]: &[Tensor4; 2],
    spec: AttentionSpec,
    module: &DifferentialAttention,
    device: &Device,
    attention: Attention,
) -> Result<Named> {
    let device = device.clone().autodiff();
    let on_device = |tensor: &Tensor4| upload(tensor, DType::F32, &device);
    let inputs: Vec<_> = inputs
        .iter()
        .map(|input| on_device(input).require_grad())
        .collect();
    let input = |n: usize| inputs[n].clone();
    let options = AttentionOptions::from(spec);
    let core = match attention {
        Attention::Fused => try_differential_attention(
            [input(0), input(1)],
            [input(2), input(3)],
            input(4),
            input(5).flatten(0, 3),
            options,
        )?,
        Attention::Unfused => {
            let map = |n: usize| -> Result<Tensor<4>> {
                let (query, key) = (input(n), input(2 + n));
                Ok(unfused_attention(query, key, input(4), options.clone())?.0)
            };
            map(0)? - map(1)? * input(5)
        }
    };
    let out = module.norm(core.clone());
    let loss =
        (core.clone() * on_device(grad_core)).sum() + (out.clone() * on_device(grad_out)).sum();
    let gradients = loss.backward();
    let mut outputs: Named = vec![("core".into(), floats(core)), ("out".into(), floats(out))];
    for (name, input) in INPUTS.iter().zip(&inputs) {
        outputs.push((format!("d{name}"), gradient(input, &gradients)?));
    }
    Ok(outputs)
}
