//! Flex: the CubeCL kernels, run by the CubeCL CPU runtime on what lies in flex's memory.
//!
//! The CPU runtime computes only in memory that it allocated itself, so what the inputs cover of
//! flex's storage is copied once, as it lies, and read with its strides. Results are handed back
//! without a copy.

mod maps;
mod memory;

use attention_core::{AttentionError, AttentionSpec};
use attention_kernels::{modification::Modification, softmax};
use burn::backend::{Flex, TensorMetadata};
use burn::tensor::DType;
use burn_flex::FlexTensor;

use super::values::{
    BackwardInputs, InputGradients, Inputs, MaybeBool, MaybeFloat, MaybeInt, Output,
};
use super::{AttentionOps, launched, output_shapes};
use memory::{Uploads, client, contiguous, download, plain};

impl AttentionOps for Flex {
    fn attention_forward(
        inputs: Inputs<Self>,
        spec: AttentionSpec,
        modification: Modification,
    ) -> Output<Self> {
        launched(forward(plain_inputs(inputs), spec, modification))
    }

    fn attention_backward(
        inputs: BackwardInputs<Self>,
        spec: AttentionSpec,
        modification: Modification,
        bias_grad: bool,
    ) -> InputGradients<Self> {
        let inputs = BackwardInputs {
            forward: plain_inputs(inputs.forward),
            output: Output {
                out: plain(inputs.output.out),
                lse: inputs.output.lse.to_contiguous(),
            },
            grad_out: plain(inputs.grad_out),
            grad_lse: MaybeFloat::from(inputs.grad_lse.as_option().map(FlexTensor::to_contiguous)),
        };
        launched(backward(inputs, spec, modification, bias_grad))
    }
}

fn forward(
    inputs: Inputs<Flex>,
    spec: AttentionSpec,
    modification: Modification,
) -> Result<Output<Flex>, AttentionError> {
    let dtype = inputs.query.dtype();
    let (out, lse) = output_shapes(inputs.query.shape().dims(), inputs.value.shape().dims());
    let uploads = Uploads::new(&input_tensors(&inputs))?;
    let output = softmax::forward(
        client(),
        &kernel_inputs(&uploads, &inputs, modification),
        &spec,
    )?;
    Ok(Output {
        out: download(output.out, out.into(), dtype)?,
        lse: download(output.lse, lse.into(), DType::F32)?,
    })
}

fn backward(
    inputs: BackwardInputs<Flex>,
    spec: AttentionSpec,
    modification: Modification,
    bias_grad: bool,
) -> Result<InputGradients<Flex>, AttentionError> {
    let forward = &inputs.forward;
    let mut tensors = input_tensors(forward);
    tensors.extend([&inputs.output.out, &inputs.output.lse, &inputs.grad_out]);
    tensors.extend(inputs.grad_lse.as_option());
    let uploads = Uploads::new(&tensors)?;

    let gradients = softmax::backward(
        client(),
        &softmax::BackwardInputs {
            forward: kernel_inputs(&uploads, forward, modification),
            out: uploads.view(&inputs.output.out),
            lse: uploads.view(&inputs.output.lse),
            grad_out: uploads.view(&inputs.grad_out),
            grad_lse: inputs.grad_lse.as_option().map(|lse| uploads.view(lse)),
        },
        &spec,
        bias_grad,
    )?;
    let like = |tensor: &FlexTensor, handle| download(handle, tensor.shape(), tensor.dtype());
    let bias = forward.bias.as_option().zip(gradients.bias);
    Ok(InputGradients {
        query: like(&forward.query, gradients.query)?,
        key: like(&forward.key, gradients.key)?,
        value: like(&forward.value, gradients.value)?,
        bias: bias
            .map(|(bias, handle)| like(bias, handle))
            .transpose()?
            .into(),
    })
}

fn kernel_inputs(
    uploads: &Uploads,
    inputs: &Inputs<Flex>,
    modification: Modification,
) -> softmax::Inputs {
    softmax::Inputs {
        query: uploads.view(&inputs.query),
        key: uploads.view(&inputs.key),
        value: uploads.view(&inputs.value),
        mask: inputs.mask.as_option().map(|mask| uploads.view(mask)),
        bias: inputs.bias.as_option().map(|bias| uploads.view(bias)),
        modification,
        floats: inputs.floats.as_option().map(|tensor| uploads.flat(tensor)),
        integers: inputs
            .integers
            .as_option()
            .map(|tensor| uploads.flat(tensor)),
    }
}

fn input_tensors(inputs: &Inputs<Flex>) -> Vec<&FlexTensor> {
    [&inputs.query, &inputs.key, &inputs.value]
        .into_iter()
        .chain(inputs.mask.as_option())
        .chain(inputs.bias.as_option())
        .chain(inputs.floats.as_option())
        .chain(inputs.integers.as_option())
        .collect()
}

fn plain_inputs(inputs: Inputs<Flex>) -> Inputs<Flex> {
    Inputs {
        query: plain(inputs.query),
        key: plain(inputs.key),
        value: plain(inputs.value),
        mask: MaybeBool::from(inputs.mask.into_option().map(plain)),
        bias: MaybeFloat::from(inputs.bias.into_option().map(plain)),
        floats: MaybeFloat::from(inputs.floats.into_option().map(contiguous)),
        integers: MaybeInt::from(inputs.integers.into_option().map(contiguous)),
    }
}
