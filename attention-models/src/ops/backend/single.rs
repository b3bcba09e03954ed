//! Attention of single queries in memory that the host reads. The launch of a kernel, and flex's copies, would
//! take longer than all of the work.

use attention_core::{
    CausalAlignment,
    host::{self, Heads, Numbers, Rows, Size},
};
use attention_kernels::{modification::Modification, softmax::Engine};
use burn::backend::{Backend, Flex, TensorMetadata};
use burn::tensor::{Bytes, DType};
use burn_flex::{FlexTensor, Layout};
use half::{bf16, f16};

use super::{
    output_shapes,
    values::{Call, Inputs, Output},
};

/// The output of one query, if there is nothing between its products but the scale.
pub(super) fn forward(inputs: &Inputs<Flex>, call: &Call) -> Option<Output<Flex>> {
    let tensors = [&inputs.query, &inputs.key, &inputs.value];
    takes(inputs, call).then(|| attend(tensors, call)).flatten()
}

/// Whether this is one query with nothing between its products but the scale.
pub(super) fn takes<B: Backend>(inputs: &Inputs<B>, call: &Call) -> bool {
    let [_, _, seq_q, _]: [usize; 4] = inputs.query.shape().dims();
    seq_q == 1
        && inputs.mask.as_option().is_none()
        && inputs.bias.as_option().is_none()
        && call.modification == Modification::default()
        && call.blocks.is_none()
        && call.spec.softcap.is_none()
        && call.spec.causal != Some(CausalAlignment::TopLeft)
        && call.engine == Engine::Auto
        && !call.recorded
}

/// The output of such a query, if the tensors are of one type and their rows lie whole in memory.
pub(super) fn attend(tensors: [&FlexTensor; 3], call: &Call) -> Option<Output<Flex>> {
    let [query_shape, [_, kv_heads, seq_kv, _], value_shape] =
        tensors.map(|tensor| tensor.shape().dims());
    let ([batch, heads, _, head_dim], [_, value_heads, _, value_dim]) = (query_shape, value_shape);
    let numbers = numbers_of(tensors)?;
    let [query, key, value] = tensors.map(Strided::of);
    let (query, key, value) = (query?, key?, value?);
    let scale = call.spec.scale_for(head_dim) as f32;
    let size = Size {
        heads: batch * heads,
        // Key heads that share their values come after each other too.
        sharing: heads / kv_heads,
        keys: seq_kv,
        value_dim,
    };
    let (out, lse) = host::attend(size, scale, numbers, &|index| {
        let (sequence, head) = (index / heads, index % heads);
        Heads {
            queries: query.rows(sequence, head, 1),
            keys: key.rows(sequence, head / (heads / kv_heads), 2),
            values: value.rows(sequence, head / (heads / value_heads), 2),
        }
    });
    let dtype = tensors[0].dtype();
    let out = match dtype {
        DType::F16 => Bytes::from_elems::<f16>(out.into_iter().map(f16::from_f32).collect()),
        DType::BF16 => Bytes::from_elems::<bf16>(out.into_iter().map(bf16::from_f32).collect()),
        _ => Bytes::from_elems(out),
    };
    let (out_shape, lse_shape) = output_shapes(query_shape, value_shape);
    Some(Output {
        out: FlexTensor::new(out, Layout::contiguous(out_shape.into()), dtype),
        lse: FlexTensor::new(
            Bytes::from_elems(lse),
            Layout::contiguous(lse_shape.into()),
            DType::F32,
        ),
    })
}

/// The numbers of tensors of one type.
fn numbers_of(tensors: [&FlexTensor; 3]) -> Option<Numbers<'_>> {
    let [dtype, key, value] = tensors.map(TensorMetadata::dtype);
    match dtype {
        _ if key != dtype || value != dtype => None,
        DType::F32 => Some(Numbers::F32(tensors.map(FlexTensor::storage))),
        DType::F16 => Some(Numbers::F16(tensors.map(FlexTensor::storage))),
        DType::BF16 => Some(Numbers::BF16(tensors.map(FlexTensor::storage))),
        _ => None,
    }
}

/// A tensor of four dimensions whose rows lie whole in memory.
struct Strided {
    start: usize,
    strides: [usize; 4],
    width: usize,
}

impl Strided {
    fn of(tensor: &FlexTensor) -> Option<Self> {
        let layout = tensor.layout();
        let whole = layout.has_positive_strides() && layout.strides()[3] == 1;
        whole.then(|| Self {
            start: layout.start_offset(),
            strides: std::array::from_fn(|axis| layout.strides()[axis].unsigned_abs()),
            width: layout.shape()[3],
        })
    }

    /// The rows of a sequence from a head on, along an axis: of heads or of tokens.
    fn rows(&self, sequence: usize, head: usize, axis: usize) -> Rows {
        Rows {
            start: self.start + sequence * self.strides[0] + head * self.strides[1],
            step: self.strides[axis],
            width: self.width,
        }
    }
}
