//! The attention operation of Burn's backends that have a kernel of ours: forward and backward for
//! every CubeCL runtime and for flex, lazily through fusion, differentiable through autodiff.

mod autodiff;
mod cube;
#[cfg(feature = "cpu")]
mod flex;
pub(super) mod maps;
#[cfg(feature = "cpu")]
mod single;
mod values;

use attention_core::{AttentionError, AttentionProblem};
use attention_kernels::{block_map::BlockShape, modification::Modification, softmax::Wanted};
use burn::backend::{
    Backend, Dispatch, DispatchDevice, backend_extension, cubecl::dtype_to_elem_type,
    fusion::custom::TensorSpec,
};
use burn::tensor::{DType, Device, Int, Shape, Tensor};

use cubecl::ir::DeviceProperties;
#[cfg(feature = "cpu")]
use cubecl::server::ServerError;

use super::{AttentionOptions, MaskMod, modification::Flat};
use values::{
    BackwardInputs, BackwardInputsMetadata, BlockLists, BlockListsMetadata, Call, InputGradients,
    InputGradientsMetadata, Inputs, InputsMetadata, MaskTensors, MaskTensorsMetadata, MaybeBool,
    MaybeFloat, MaybeFloatMetadata, MaybeInt, Output, OutputMetadata,
};

/// What a backend offers to run attention fused. The arguments have been checked.
#[backend_extension(Cube, Flex: cfg(feature = "cpu"), Autodiff, Fusion)]
pub trait AttentionOps: Backend {
    /// The output and the log-sum-exp.
    #[fusion(meta = describe_output)]
    fn attention_forward(#[extension_type] inputs: Inputs<Self>, call: Call) -> Output<Self>;

    /// The gradients of the inputs; those of bias and tables only if they are `wanted`.
    #[fusion(meta = describe_gradients)]
    fn attention_backward(
        #[extension_type] inputs: BackwardInputs<Self>,
        call: Call,
        wanted: Wanted,
    ) -> InputGradients<Self>;

    /// The block map of a mask.
    #[fusion(meta = describe_block_lists)]
    fn attention_block_map(
        #[extension_type] tensors: MaskTensors<Self>,
        modification: Modification,
        shape: BlockShape,
    ) -> BlockLists<Self>;
}

/// Whether [`attention`] runs on this device.
pub(super) fn has_kernels(device: &Device) -> bool {
    match device.clone().without_autodiff().as_dispatch() {
        DispatchDevice::Cube(_) => true,
        #[cfg(feature = "cpu")]
        DispatchDevice::Flex(_) => true,
        _ => false,
    }
}

/// What `ask` finds in the properties of the runtime that [`attention`] of this device runs on.
pub(super) fn of_properties<R>(
    device: &Device,
    ask: impl FnOnce(&DeviceProperties) -> R,
) -> Option<R> {
    match device.clone().without_autodiff().as_dispatch() {
        DispatchDevice::Cube(device) => Some(ask(device.client().properties())),
        #[cfg(feature = "cpu")]
        DispatchDevice::Flex(_) => Some(ask(flex::properties())),
        _ => None,
    }
}

/// Refuses an engine that the device does not have; what has no kernels has none, and is refused later.
pub(super) fn check_engine(
    options: &AttentionOptions,
    problem: &AttentionProblem,
    dtype: DType,
    device: &Device,
) -> Result<(), AttentionError> {
    let elem = dtype_to_elem_type(dtype);
    let (mapped, backward) = (options.block_map.is_some(), device.is_autodiff());
    let check = |on: &DeviceProperties| options.engine.check(on, problem, elem, mapped, backward);
    of_properties(device, check).unwrap_or(Ok(()))
}

/// Attention of checked arguments through [`AttentionOps`].
pub(super) fn attention(
    query: Tensor<4>,
    key: Tensor<4>,
    value: Tensor<4>,
    options: AttentionOptions,
) -> (Tensor<4>, Tensor<3>) {
    let (mask, rows, columns, blocks) = match options.block_map {
        Some(map) => (
            Some(map.mask),
            Some(map.rows),
            Some(map.columns),
            Some(map.shape),
        ),
        None => (options.mask_mod, None, None, None),
    };
    let flat = Flat::new(options.score_mod, mask, options.weight_mod);
    let inputs = Inputs {
        query: query.into_dispatch(),
        key: key.into_dispatch(),
        value: value.into_dispatch(),
        mask: MaybeBool::from(options.mask.map(Tensor::into_dispatch)),
        bias: MaybeFloat::from(options.bias.map(Tensor::into_dispatch)),
        floats: MaybeFloat::from(flat.floats.map(Tensor::into_dispatch)),
        integers: MaybeInt::from(flat.integers.map(Tensor::into_dispatch)),
        tables: MaybeFloat::from(flat.tables.map(Tensor::into_dispatch)),
        block_rows: MaybeInt::from(rows.map(Tensor::into_dispatch)),
        block_columns: MaybeInt::from(columns.map(Tensor::into_dispatch)),
    };
    let call = Call {
        spec: options.spec,
        modification: flat.modification,
        engine: options.engine,
        blocks,
        recorded: false,
    };
    let output = <Dispatch as AttentionOps>::attention_forward(inputs, call);
    (
        Tensor::from_dispatch(output.out),
        Tensor::from_dispatch(output.lse),
    )
}

/// The lists of the block map of a checked mask on `device`.
pub(super) fn block_lists(
    mask: MaskMod,
    shape: BlockShape,
    device: &Device,
) -> (Tensor<1, Int>, Tensor<1, Int>) {
    let flat = Flat::new(None, Some(mask), None);
    let tensors = MaskTensors {
        anchor: Tensor::<1, Int>::zeros([1], device).into_dispatch(),
        floats: MaybeFloat::from(flat.floats.map(Tensor::into_dispatch)),
        integers: MaybeInt::from(flat.integers.map(Tensor::into_dispatch)),
    };
    let lists = <Dispatch as AttentionOps>::attention_block_map(tensors, flat.modification, shape);
    (
        Tensor::from_dispatch(lists.rows),
        Tensor::from_dispatch(lists.columns),
    )
}

/// Ends an operation that passed every check and still was refused by the device: a backend
/// operation, which fusion may run long after the call, has no other way to say so.
fn launched<T>(result: Result<T, AttentionError>) -> T {
    super::accept(result)
}

/// What a runtime says, as an error of ours.
#[cfg(feature = "cpu")]
fn refused(error: ServerError) -> AttentionError {
    AttentionError::Launch {
        kernel: "softmax",
        reason: error.to_string(),
    }
}

fn output_shapes(query: [usize; 4], value: [usize; 4]) -> ([usize; 4], [usize; 3]) {
    let [batch, heads, seq_q, _] = query;
    ([batch, heads, seq_q, value[3]], [batch, heads, seq_q])
}

fn describe_output(inputs: &InputsMetadata, _call: &Call) -> OutputMetadata {
    let (out, lse) = output_shapes(inputs.query.shape.dims(), inputs.value.shape.dims());
    OutputMetadata {
        out: TensorSpec::new(Shape::from(out), inputs.query.dtype),
        lse: TensorSpec::new(Shape::from(lse), DType::F32),
    }
}

fn describe_gradients(
    inputs: &BackwardInputsMetadata,
    _call: &Call,
    wanted: &Wanted,
) -> InputGradientsMetadata {
    let forward = &inputs.forward;
    InputGradientsMetadata {
        query: forward.query.clone(),
        key: forward.key.clone(),
        value: forward.value.clone(),
        bias: described(&forward.bias, wanted.bias),
        tables: described(&forward.tables, wanted.tables),
    }
}

fn described(input: &MaybeFloatMetadata, wanted: bool) -> MaybeFloatMetadata {
    match input {
        MaybeFloatMetadata::Given(input) if wanted => MaybeFloatMetadata::Given(input.clone()),
        _ => MaybeFloatMetadata::Absent,
    }
}

fn describe_block_lists(
    _tensors: &MaskTensorsMetadata,
    _code: &Modification,
    shape: &BlockShape,
) -> BlockListsMetadata {
    let list = |elements: usize| TensorSpec::new(Shape::from([elements]), DType::I32);
    BlockListsMetadata {
        rows: list(shape.rows_len()),
        columns: list(shape.columns_len()),
    }
}
