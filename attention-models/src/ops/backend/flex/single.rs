//! Attention of single queries in flex's own memory. The copies and the launch of a kernel would take
//! longer than all of the work.

use attention_core::{
    CausalAlignment,
    host::{self, Head, Rows},
};
use attention_kernels::{modification::Modification, softmax::Engine};
use burn::backend::{Flex, TensorMetadata};
use burn::tensor::{Bytes, DType};
use burn_flex::{FlexTensor, Layout};

use super::super::{
    output_shapes,
    values::{Call, Inputs, Output},
};

/// The output of one query in f32, if there is nothing between its products but the scale.
pub(super) fn forward(inputs: &Inputs<Flex>, call: &Call) -> Option<Output<Flex>> {
    let [batch, heads, seq_q, head_dim] = inputs.query.shape().dims();
    let [_, kv_heads, seq_kv, _] = inputs.key.shape().dims();
    let [_, value_heads, _, value_dim] = inputs.value.shape().dims();
    let tensors = [&inputs.query, &inputs.key, &inputs.value];
    let whole_rows = |tensor: &&FlexTensor| {
        let layout = tensor.layout();
        layout.has_positive_strides() && layout.strides()[3] == 1
    };
    let plain = inputs.mask.as_option().is_none()
        && inputs.bias.as_option().is_none()
        && call.modification == Modification::default()
        && call.blocks.is_none()
        && call.spec.softcap.is_none()
        && call.spec.causal != Some(CausalAlignment::TopLeft)
        && call.engine == Engine::Auto
        && !call.recorded;
    let fits = seq_q == 1 && inputs.query.dtype() == DType::F32 && tensors.iter().all(whole_rows);
    if !plain || !fits {
        return None;
    }
    let (query, key, value) = (
        Strided::of(&inputs.query),
        Strided::of(&inputs.key),
        Strided::of(&inputs.value),
    );
    let scale = call.spec.scale_for(head_dim) as f32;
    let (out, lse) = host::attend(batch * heads, seq_kv, value_dim, scale, |index| {
        let (sequence, head) = (index / heads, index % heads);
        Head {
            query: &query.head(sequence, head).numbers[..head_dim],
            keys: key.head(sequence, head / (heads / kv_heads)),
            values: value.head(sequence, head / (heads / value_heads)),
        }
    });
    let (out_shape, lse_shape) =
        output_shapes([batch, heads, seq_q, head_dim], inputs.value.shape().dims());
    let tensor = |numbers, layout| FlexTensor::new(Bytes::from_elems(numbers), layout, DType::F32);
    Some(Output {
        out: tensor(out, Layout::contiguous(out_shape.into())),
        lse: tensor(lse, Layout::contiguous(lse_shape.into())),
    })
}

/// A tensor of four dimensions whose rows lie whole in memory.
struct Strided<'a> {
    numbers: &'a [f32],
    strides: [usize; 4],
    width: usize,
}

impl<'a> Strided<'a> {
    fn of(tensor: &'a FlexTensor) -> Self {
        let layout = tensor.layout();
        Self {
            numbers: &tensor.storage::<f32>()[layout.start_offset()..],
            strides: std::array::from_fn(|axis| layout.strides()[axis].unsigned_abs()),
            width: layout.shape()[3],
        }
    }

    fn head(&self, sequence: usize, head: usize) -> Rows<'a> {
        Rows {
            numbers: &self.numbers[sequence * self.strides[0] + head * self.strides[1]..],
            step: self.strides[2],
            width: self.width,
        }
    }
}
