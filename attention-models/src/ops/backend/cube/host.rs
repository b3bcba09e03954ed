//! Single queries of the CPU runtime, which lets the host read its buffers.

use attention_core::AttentionError;
use burn::backend::{Flex, TensorMetadata};
use burn::tensor::DType;
use burn_cubecl::{CubeBackend, tensor::CubeTensor};
use burn_flex::{FlexTensor, Layout};
use cubecl::Device;

use super::{
    super::{
        refused, single,
        values::{Call, Inputs, Output},
    },
    wrap,
};

/// The output of one query of the CPU runtime, if there is nothing between its products but the scale.
pub(super) fn forward(
    inputs: &Inputs<CubeBackend>,
    call: &Call,
) -> Result<Option<Output<CubeBackend>>, AttentionError> {
    let tensors = [&inputs.query, &inputs.key, &inputs.value];
    let tiled = tensors.iter().any(|tensor| tensor.meta.is_tiled());
    if !matches!(inputs.query.device, Device::Cpu(_)) || tiled || !single::takes(inputs, call) {
        return Ok(None);
    }
    let [query, key, value] = in_place(tensors)?;
    Ok(single::attend([&query, &key, &value], call).map(|output| upload(&inputs.query, output)))
}

/// The tensors as they lie in the runtime's memory, once what was queued has filled them.
fn in_place(tensors: [&CubeTensor; 3]) -> Result<[FlexTensor; 3], AttentionError> {
    let handles = tensors.map(|tensor| tensor.handle.clone()).into();
    let mut buffers = tensors[0]
        .client
        .read(handles)
        .map_err(refused)?
        .into_iter();
    Ok(tensors.map(|tensor| {
        let bytes = buffers.next().expect("a buffer for each handle");
        let strides = tensor.meta.strides().iter();
        let strides = strides.map(|&stride| stride.cast_signed()).collect();
        FlexTensor::new(bytes, Layout::new(tensor.shape(), strides, 0), tensor.dtype)
    }))
}

fn upload(like: &CubeTensor, output: Output<Flex>) -> Output<CubeBackend> {
    let upload = |tensor: FlexTensor, dtype: DType| {
        let handle = like.client.create_from_slice(tensor.bytes());
        wrap(like, handle, tensor.shape(), dtype)
    };
    Output {
        out: upload(output.out, like.dtype),
        lse: upload(output.lse, DType::F32),
    }
}
