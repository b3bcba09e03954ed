//! Every CubeCL runtime: the kernels read Burn's buffers where they lie. So does the host, for a single query, those
//! of the CPU runtime.

#[cfg(feature = "cpu")]
mod host;
mod maps;

use attention_kernels::{
    TensorRef,
    block_map::{self, BlockMap, BlockShape},
    modification::Modification,
    softmax::{self, Wanted},
};
use burn::backend::{TensorMetadata, cubecl::dtype_to_storage_type};
use burn::tensor::{DType, Shape};
use burn_cubecl::{CubeBackend, kernel::into_contiguous, tensor::CubeTensor};
use cubecl::{
    ir::{ElemType, UIntKind},
    server::Handle,
};

use super::values::{
    BackwardInputs, BlockLists, Call, InputGradients, Inputs, MaskTensors, MaybeFloat, Output,
};
use super::{AttentionOps, launched, output_shapes};

impl AttentionOps for CubeBackend {
    fn attention_forward(inputs: Inputs<Self>, call: Call) -> Output<Self> {
        #[cfg(feature = "cpu")]
        if let Some(output) = launched(host::forward(&inputs, &call)) {
            return output;
        }
        let spec = call.spec;
        let query = inputs.query.clone();
        let (out, lse) = output_shapes(query.shape().dims(), inputs.value.shape().dims());
        let output = launched(softmax::forward(
            &query.client,
            &kernel_inputs(inputs, call),
            &spec,
        ));
        Output {
            out: wrap(&query, output.out, out.into(), query.dtype),
            lse: wrap(&query, output.lse, lse.into(), DType::F32),
        }
    }

    fn attention_backward(
        inputs: BackwardInputs<Self>,
        call: Call,
        wanted: Wanted,
    ) -> InputGradients<Self> {
        let spec = call.spec;
        let Inputs {
            query, key, value, ..
        } = inputs.forward.clone();
        let bias = inputs.forward.bias.clone().into_option();
        let tables = inputs.forward.tables.clone().into_option();
        let gradients = launched(softmax::backward(
            &query.client,
            &softmax::BackwardInputs {
                forward: kernel_inputs(inputs.forward, call),
                out: tensor_ref(inputs.output.out),
                lse: row_ref(inputs.output.lse),
                grad_out: tensor_ref(inputs.grad_out),
                grad_lse: inputs.grad_lse.into_option().map(row_ref),
            },
            &spec,
            wanted,
        ));
        let like = |tensor: &CubeTensor, handle| wrap(tensor, handle, tensor.shape(), tensor.dtype);
        InputGradients {
            query: like(&query, gradients.query),
            key: like(&key, gradients.key),
            value: like(&value, gradients.value),
            bias: MaybeFloat::from(
                bias.zip(gradients.bias)
                    .map(|(bias, handle)| like(&bias, handle)),
            ),
            tables: MaybeFloat::from(
                tables
                    .zip(gradients.tables)
                    .map(|(tables, handle)| like(&tables, handle)),
            ),
        }
    }

    fn attention_block_map(
        tensors: MaskTensors<Self>,
        modification: Modification,
        shape: BlockShape,
    ) -> BlockLists<Self> {
        let anchor = &tensors.anchor;
        let map = launched(block_map::block_map(
            &anchor.client,
            &modification,
            tensors.floats.into_option().map(flat_ref).as_ref(),
            tensors.integers.into_option().map(flat_ref).as_ref(),
            shape,
        ));
        let list = |list: TensorRef| {
            let elements = Shape::from([list.shape[3]]);
            wrap(anchor, list.handle, elements, DType::I32)
        };
        BlockLists {
            rows: list(map.rows),
            columns: list(map.columns),
        }
    }
}

fn kernel_inputs(inputs: Inputs<CubeBackend>, call: Call) -> softmax::Inputs {
    let lists = inputs
        .block_rows
        .into_option()
        .zip(inputs.block_columns.into_option());
    softmax::Inputs {
        query: tensor_ref(inputs.query),
        key: tensor_ref(inputs.key),
        value: tensor_ref(inputs.value),
        mask: inputs.mask.into_option().map(tensor_ref),
        bias: inputs.bias.into_option().map(tensor_ref),
        engine: call.engine,
        modification: call.modification,
        floats: inputs.floats.into_option().map(flat_ref),
        integers: inputs.integers.into_option().map(flat_ref),
        tables: inputs.tables.into_option().map(flat_ref),
        block_map: call
            .blocks
            .zip(lists)
            .map(|(shape, (rows, columns))| BlockMap {
                shape,
                rows: flat_ref(rows),
                columns: flat_ref(columns),
            }),
    }
}

/// `[elements]` as `[1, 1, 1, elements]`.
fn flat_ref(tensor: CubeTensor) -> TensorRef {
    let tensor = into_contiguous(tensor);
    let [elements] = tensor.meta.shape().dims();
    let elem = elem(tensor.dtype);
    TensorRef::contiguous(tensor.handle, [1, 1, 1, elements], elem)
}

/// A view of `[batch, heads, sequence, dim]` with its strides; only a tiled layout is copied.
fn tensor_ref(tensor: CubeTensor) -> TensorRef {
    let tensor = if tensor.meta.is_tiled() {
        into_contiguous(tensor)
    } else {
        tensor
    };
    let strides = tensor.meta.strides();
    TensorRef {
        shape: tensor.meta.shape().dims(),
        strides: std::array::from_fn(|axis| strides[axis]),
        elem: elem(tensor.dtype),
        handle: tensor.handle,
    }
}

/// `[batch, heads, seq_q]` as `[batch, heads, seq_q, 1]`.
fn row_ref(tensor: CubeTensor) -> TensorRef {
    let tensor = into_contiguous(tensor);
    let [batch, heads, rows] = tensor.meta.shape().dims();
    let elem = elem(tensor.dtype);
    TensorRef::contiguous(tensor.handle, [batch, heads, rows, 1], elem)
}

fn elem(dtype: DType) -> ElemType {
    match dtype_to_storage_type(dtype) {
        ElemType::Bool => ElemType::UInt(UIntKind::U8),
        elem => elem,
    }
}

fn wrap(like: &CubeTensor, handle: Handle, shape: Shape, dtype: DType) -> CubeTensor {
    CubeTensor::new_contiguous(
        like.client.clone(),
        like.device.clone(),
        shape,
        handle,
        dtype,
    )
}
