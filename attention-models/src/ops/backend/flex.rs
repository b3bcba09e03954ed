//! Flex: the CubeCL kernels, run by the CubeCL CPU runtime on copies of what lies in flex's memory.
//!
//! The CPU runtime computes only in memory that it allocated itself, so what the inputs cover of
//! flex's storage is copied once, as it lies, and read with its strides; the backward pass finds the
//! copies of the forward. Results are handed back without a copy. A single query crosses nothing: it
//! attends where it lies.

mod maps;
mod memory;
mod twins;

use attention_core::AttentionError;
use attention_kernels::{
    TensorRef,
    block_map::{self, BlockMap, BlockShape},
    modification::Modification,
    softmax::{self, Wanted},
};
use burn::backend::{Flex, TensorMetadata};
use burn::tensor::{DType, Shape};
use burn_flex::FlexTensor;
use cubecl::server::Handle;

use super::values::{
    BackwardInputs, BlockLists, Call, InputGradients, Inputs, MaskTensors, MaybeBool, MaybeFloat,
    MaybeInt, Output,
};
use super::{AttentionOps, launched, output_shapes, single};
pub(super) use memory::properties;
use memory::{Uploads, client, contiguous, download, download_kept, plain};

impl AttentionOps for Flex {
    fn attention_forward(inputs: Inputs<Self>, call: Call) -> Output<Self> {
        if let Some(output) = single::forward(&inputs, &call) {
            return output;
        }
        launched(forward(plain_inputs(inputs), call))
    }

    fn attention_backward(
        inputs: BackwardInputs<Self>,
        call: Call,
        wanted: Wanted,
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
        launched(backward(inputs, call, wanted))
    }

    fn attention_block_map(
        tensors: MaskTensors<Self>,
        modification: Modification,
        shape: BlockShape,
    ) -> BlockLists<Self> {
        launched(block_lists(tensors, &modification, shape))
    }
}

fn forward(inputs: Inputs<Flex>, call: Call) -> Result<Output<Flex>, AttentionError> {
    let dtype = inputs.query.dtype();
    let (out, lse) = output_shapes(inputs.query.shape().dims(), inputs.value.shape().dims());
    let uploads = Uploads::new(&input_tensors(&inputs))?;
    let (spec, recorded) = (call.spec, call.recorded);
    let output = softmax::forward(client(), &kernel_inputs(&uploads, &inputs, call), &spec)?;
    let result = if recorded {
        uploads.keep();
        download_kept
    } else {
        download
    };
    Ok(Output {
        out: result(output.out, out.into(), dtype)?,
        lse: result(output.lse, lse.into(), DType::F32)?,
    })
}

fn backward(
    inputs: BackwardInputs<Flex>,
    call: Call,
    wanted: Wanted,
) -> Result<InputGradients<Flex>, AttentionError> {
    let forward = &inputs.forward;
    let mut tensors = input_tensors(forward);
    tensors.extend([&inputs.output.out, &inputs.output.lse, &inputs.grad_out]);
    tensors.extend(inputs.grad_lse.as_option());
    let uploads = Uploads::new(&tensors)?;

    let spec = call.spec;
    let gradients = softmax::backward(
        client(),
        &softmax::BackwardInputs {
            forward: kernel_inputs(&uploads, forward, call),
            out: uploads.view(&inputs.output.out),
            lse: uploads.view(&inputs.output.lse),
            grad_out: uploads.view(&inputs.grad_out),
            grad_lse: inputs.grad_lse.as_option().map(|lse| uploads.view(lse)),
        },
        &spec,
        wanted,
    )?;
    let like = |tensor: &FlexTensor, handle| download(handle, tensor.shape(), tensor.dtype());
    let optional = |tensor: &MaybeFloat<Flex>, handle: Option<Handle>| {
        let given = tensor.as_option().zip(handle);
        let gradient = given
            .map(|(tensor, handle)| like(tensor, handle))
            .transpose()?;
        Ok::<_, AttentionError>(MaybeFloat::from(gradient))
    };
    Ok(InputGradients {
        query: like(&forward.query, gradients.query)?,
        key: like(&forward.key, gradients.key)?,
        value: like(&forward.value, gradients.value)?,
        bias: optional(&forward.bias, gradients.bias)?,
        tables: optional(&forward.tables, gradients.tables)?,
    })
}

fn block_lists(
    tensors: MaskTensors<Flex>,
    modification: &Modification,
    shape: BlockShape,
) -> Result<BlockLists<Flex>, AttentionError> {
    let floats = tensors.floats.into_option().map(contiguous);
    let integers = tensors.integers.into_option().map(contiguous);
    let given: Vec<_> = floats.iter().chain(&integers).collect();
    let uploads = Uploads::new(&given)?;
    let flat = |tensor: &Option<FlexTensor>| tensor.as_ref().map(|tensor| uploads.flat(tensor));
    let map = block_map::block_map(
        client(),
        modification,
        flat(&floats).as_ref(),
        flat(&integers).as_ref(),
        shape,
    )?;
    let list = |list: TensorRef| download(list.handle, Shape::from([list.shape[3]]), DType::I32);
    Ok(BlockLists {
        rows: list(map.rows)?,
        columns: list(map.columns)?,
    })
}

fn kernel_inputs(uploads: &Uploads, inputs: &Inputs<Flex>, call: Call) -> softmax::Inputs {
    let flat = |tensor: &MaybeInt<Flex>| tensor.as_option().map(|tensor| uploads.flat(tensor));
    let lists = flat(&inputs.block_rows).zip(flat(&inputs.block_columns));
    softmax::Inputs {
        query: uploads.view(&inputs.query),
        key: uploads.view(&inputs.key),
        value: uploads.view(&inputs.value),
        mask: inputs.mask.as_option().map(|mask| uploads.view(mask)),
        bias: inputs.bias.as_option().map(|bias| uploads.view(bias)),
        engine: call.engine,
        modification: call.modification,
        floats: inputs.floats.as_option().map(|tensor| uploads.flat(tensor)),
        integers: flat(&inputs.integers),
        tables: inputs.tables.as_option().map(|tensor| uploads.flat(tensor)),
        block_map: call
            .blocks
            .zip(lists)
            .map(|(shape, (rows, columns))| BlockMap {
                shape,
                rows,
                columns,
            }),
    }
}

fn input_tensors(inputs: &Inputs<Flex>) -> Vec<&FlexTensor> {
    [&inputs.query, &inputs.key, &inputs.value]
        .into_iter()
        .chain(inputs.mask.as_option())
        .chain(inputs.bias.as_option())
        .chain(inputs.floats.as_option())
        .chain(inputs.integers.as_option())
        .chain(inputs.tables.as_option())
        .chain(inputs.block_rows.as_option())
        .chain(inputs.block_columns.as_option())
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
        tables: MaybeFloat::from(inputs.tables.into_option().map(contiguous)),
        block_rows: MaybeInt::from(inputs.block_rows.into_option().map(contiguous)),
        block_columns: MaybeInt::from(inputs.block_columns.into_option().map(contiguous)),
    }
}
