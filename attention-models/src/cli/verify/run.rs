//! Attention through Burn, forward and backward, from values on the host and back.

use anyhow::{Context, Result};
use attention_core::{
    AttentionError, DType,
    oracle::{Mask4, Tensor4},
};
use burn::tensor::{Bool, Device, Gradients, Tensor, TensorData};

use super::case::{Case, Outputs};
use crate::ops::AttentionOptions;

/// An operation that gives output and log-sum-exp.
pub type Operation = fn(
    Tensor<4>,
    Tensor<4>,
    Tensor<4>,
    AttentionOptions,
) -> Result<(Tensor<4>, Tensor<3>), AttentionError>;

/// Runs `operation` on the case and returns what it gives, in the order of [`Outputs`].
pub fn forward_and_backward(
    case: &Case,
    dtype: DType,
    device: &Device,
    operation: Operation,
) -> Result<Outputs> {
    let device = device.clone().autodiff();
    let tracked = |tensor: &Tensor4| upload(tensor, dtype, &device).require_grad();
    let inputs = &case.inputs;
    let (query, key, value) = (
        tracked(&inputs.query),
        tracked(&inputs.key),
        tracked(&inputs.value),
    );
    let bias = inputs.bias.as_ref().map(tracked);
    let options = match &case.code {
        Some(code) => (code.0)(&device),
        None => AttentionOptions {
            spec: case.spec,
            mask: inputs.mask.as_ref().map(|mask| upload_mask(mask, &device)),
            bias: bias.clone(),
            ..AttentionOptions::default()
        },
    };
    let (out, lse) = operation(query.clone(), key.clone(), value.clone(), options)?;
    let grad_out = upload(&case.grad_out, dtype, &device);
    let gradients = (out.clone() * grad_out).sum().backward();

    let mut outputs = vec![
        ("out", floats(out)),
        ("lse", floats(lse)),
        ("dq", gradient(&query, &gradients)?),
        ("dk", gradient(&key, &gradients)?),
        ("dv", gradient(&value, &gradients)?),
    ];
    if let (Some(bias), None) = (&bias, &case.code) {
        outputs.push(("dbias", gradient(bias, &gradients)?));
    }
    Ok(outputs)
}

/// The values of an input's gradient.
pub fn gradient<const D: usize>(input: &Tensor<D>, gradients: &Gradients) -> Result<Vec<f64>> {
    let gradient = input.grad(gradients);
    Ok(floats(gradient.context("an input has no gradient")?))
}

/// A tensor of the host on a device.
pub fn upload(tensor: &Tensor4, dtype: DType, device: &Device) -> Tensor<4> {
    let data = TensorData::new(tensor.data.clone(), tensor.shape).convert_dtype(burn_dtype(dtype));
    Tensor::from_data(data, (device, burn_dtype(dtype)))
}

/// A mask of the host on a device.
pub fn upload_mask(mask: &Mask4, device: &Device) -> Tensor<4, Bool> {
    Tensor::from_data(TensorData::new(mask.data.clone(), mask.shape), device)
}

/// The values of a tensor.
pub fn floats<const D: usize>(tensor: Tensor<D>) -> Vec<f64> {
    tensor.into_data().iter::<f64>().collect()
}

/// Burn's name for the dtype.
pub fn burn_dtype(dtype: DType) -> burn::tensor::DType {
    match dtype {
        DType::F32 => burn::tensor::DType::F32,
        DType::F16 => burn::tensor::DType::F16,
        DType::BF16 => burn::tensor::DType::BF16,
    }
}

/// The dtype's name.
pub fn dtype_name(dtype: DType) -> &'static str {
    burn_dtype(dtype).name()
}
