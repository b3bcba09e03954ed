//! The attention operation of Burn's backends that have a kernel of ours: forward and backward for
//! every CubeCL runtime and for flex, lazily through fusion, differentiable through autodiff.

mod autodiff;
mod cube;
#[cfg(feature = "cpu")]
mod flex;
pub(super) mod maps;
mod values;

use attention_core::{AttentionError, AttentionSpec};
use attention_kernels::modification::Modification;
use burn::backend::{
    Backend, Dispatch, DispatchDevice, backend_extension, fusion::custom::TensorSpec,
};
use burn::tensor::{DType, Device, Shape, Tensor};

use super::{AttentionOptions, modification::Flat};
use values::{
    BackwardInputs, BackwardInputsMetadata, InputGradients, InputGradientsMetadata, Inputs,
    InputsMetadata, MaybeBool, MaybeFloat, MaybeFloatMetadata, MaybeInt, Output, OutputMetadata,
};

/// What a backend offers to run attention fused. The arguments have been checked.
#[backend_extension(Cube, Flex: cfg(feature = "cpu"), Autodiff, Fusion)]
pub trait AttentionOps: Backend {
    /// The output and the log-sum-exp.
    #[fusion(meta = describe_output)]
    fn attention_forward(
        #[extension_type] inputs: Inputs<Self>,
        spec: AttentionSpec,
        modification: Modification,
    ) -> Output<Self>;

    /// The gradients of the inputs; that of the bias only if `bias_grad`.
    #[fusion(meta = describe_gradients)]
    fn attention_backward(
        #[extension_type] inputs: BackwardInputs<Self>,
        spec: AttentionSpec,
        modification: Modification,
        bias_grad: bool,
    ) -> InputGradients<Self>;
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

/// Attention of checked arguments through [`AttentionOps`].
pub(super) fn attention(
    query: Tensor<4>,
    key: Tensor<4>,
    value: Tensor<4>,
    options: AttentionOptions,
) -> (Tensor<4>, Tensor<3>) {
    let flat = Flat::new(options.score_mod, options.mask_mod);
    let inputs = Inputs {
        query: query.into_dispatch(),
        key: key.into_dispatch(),
        value: value.into_dispatch(),
        mask: MaybeBool::from(options.mask.map(Tensor::into_dispatch)),
        bias: MaybeFloat::from(options.bias.map(Tensor::into_dispatch)),
        floats: MaybeFloat::from(flat.floats.map(Tensor::into_dispatch)),
        integers: MaybeInt::from(flat.integers.map(Tensor::into_dispatch)),
    };
    let output =
        <Dispatch as AttentionOps>::attention_forward(inputs, options.spec, flat.modification);
    (
        Tensor::from_dispatch(output.out),
        Tensor::from_dispatch(output.lse),
    )
}

/// Ends an operation that passed every check and still was refused by the device: a backend
/// operation, which fusion may run long after the call, has no other way to say so.
fn launched<T>(result: Result<T, AttentionError>) -> T {
    super::accept(result)
}

fn output_shapes(query: [usize; 4], value: [usize; 4]) -> ([usize; 4], [usize; 3]) {
    let [batch, heads, seq_q, _] = query;
    ([batch, heads, seq_q, value[3]], [batch, heads, seq_q])
}

fn describe_output(
    inputs: &InputsMetadata,
    _spec: &AttentionSpec,
    _code: &Modification,
) -> OutputMetadata {
    let (out, lse) = output_shapes(inputs.query.shape.dims(), inputs.value.shape.dims());
    OutputMetadata {
        out: TensorSpec::new(Shape::from(out), inputs.query.dtype),
        lse: TensorSpec::new(Shape::from(lse), DType::F32),
    }
}

fn describe_gradients(
    inputs: &BackwardInputsMetadata,
    _spec: &AttentionSpec,
    _code: &Modification,
    bias_grad: &bool,
) -> InputGradientsMetadata {
    let forward = &inputs.forward;
    InputGradientsMetadata {
        query: forward.query.clone(),
        key: forward.key.clone(),
        value: forward.value.clone(),
        bias: match &forward.bias {
            MaybeFloatMetadata::Given(bias) if *bias_grad => {
                MaybeFloatMetadata::Given(bias.clone())
            }
            _ => MaybeFloatMetadata::Absent,
        },
    }
}
