//! Tensors as launch arguments.

use attention_core::AttentionError;
use cubecl::{
    client::Client,
    ir::{ElemType, FloatKind, IntKind, UIntKind},
    prelude::*,
    server::Handle,
};

use super::{
    args::{ClaimsLaunch, LayoutLaunch, LayoutsLaunch, ScoreTableLaunch},
    plan::Plan,
    tensors::{BackwardInputs, Inputs},
};
use crate::{
    TensorRef,
    modification::{CapturedDataLaunch, captured_data},
};

pub(crate) const F32: ElemType = ElemType::Float(FloatKind::F32);
/// Integers of 32 bits, whose sign no kernel looks at.
pub(crate) const WORDS: [ElemType; 2] =
    [ElemType::UInt(UIntKind::U32), ElemType::Int(IntKind::I32)];

/// How many elements one load takes from a query or key, and from a value.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Widths {
    pub head: usize,
    pub value: usize,
}

impl Widths {
    /// Both changed alike.
    pub fn map(self, change: impl Fn(usize) -> usize) -> Self {
        Self {
            head: change(self.head),
            value: change(self.value),
        }
    }
}

/// An uninitialised buffer of `length` elements; one that can be bound even when it holds none.
pub(crate) fn empty(client: &Client, length: usize, elem: ElemType) -> Handle {
    client.empty(length.max(4) * elem.size())
}

/// A buffer of `length` zeros.
pub(crate) fn zeros(client: &Client, length: usize, elem: ElemType) -> Handle {
    client.create_from_slice(&vec![0; length.max(4) * elem.size()])
}

/// The tensor's buffer, read in vectors of `width`.
pub(crate) fn bind(tensor: &TensorRef, width: usize) -> BufferArg {
    // SAFETY: the length covers the tensor's last element and nothing beyond it.
    unsafe { BufferArg::from_raw_parts(tensor.handle.clone(), extent(tensor).div_ceil(width)) }
}

/// Elements from the tensor's first to its last.
pub(crate) fn extent(tensor: &TensorRef) -> usize {
    if tensor.shape.contains(&0) {
        return 0;
    }
    let steps = tensor.shape.iter().zip(tensor.strides);
    1 + steps
        .map(|(&size, stride)| (size - 1) * stride)
        .sum::<usize>()
}

/// Strides in vectors of `width`; a dimension of one element has none.
pub(crate) fn layout(tensor: &TensorRef, width: usize) -> LayoutLaunch {
    let stride = |axis: usize| step(tensor, axis) / width;
    let dim = if width > 1 { 1 } else { step(tensor, 3) };
    LayoutLaunch::new(stride(0), stride(1), stride(2), dim)
}

/// [`layout`] of every input of the backward.
pub(crate) fn layouts(inputs: &BackwardInputs, widths: Widths) -> LayoutsLaunch {
    let forward = &inputs.forward;
    LayoutsLaunch::new(
        layout(&forward.query, widths.head),
        layout(&forward.key, widths.head),
        layout(&forward.value, widths.value),
        layout(&inputs.grad_out, widths.value),
    )
}

/// The stride along an axis, 0 where the axis has a single element.
pub(crate) fn step(tensor: &TensorRef, axis: usize) -> usize {
    if tensor.shape[axis] > 1 {
        tensor.strides[axis]
    } else {
        0
    }
}

/// A mask or bias as an optional argument.
pub(crate) fn table<T: Numeric, O: From<Option<ScoreTableLaunch<T>>>>(
    tensor: Option<&TensorRef>,
) -> O {
    tensor.map(score_table).into()
}

/// A mask or bias with stride 0 along the dimensions that it broadcasts over.
pub(crate) fn score_table<T: Numeric>(tensor: &TensorRef) -> ScoreTableLaunch<T> {
    ScoreTableLaunch::new(
        bind(tensor, 1),
        step(tensor, 0),
        step(tensor, 1),
        step(tensor, 2),
        step(tensor, 3),
    )
}

/// What the modification captured.
pub(crate) fn captured(inputs: &Inputs) -> CapturedDataLaunch {
    captured_data(inputs.captured(), &inputs.modification)
}

/// Refuses an `argument` that is not `[1, 1, 1, elements]` of one of the `elems`; without elements
/// there is none.
pub(crate) fn check_flat(
    argument: &'static str,
    tensor: Option<&TensorRef>,
    elements: usize,
    what: &str,
    elems: &[ElemType],
) -> Result<(), AttentionError> {
    let shape = tensor.map(|tensor| tensor.shape);
    if shape.unwrap_or([1, 1, 1, 0]) != [1, 1, 1, elements] {
        return Err(AttentionError::Shape {
            argument,
            given: shape.map_or(Vec::new(), Vec::from),
            accepted: format!("[1, 1, 1, {elements}], {what}"),
        });
    }
    let Some(tensor) = tensor else { return Ok(()) };
    if !elems.contains(&tensor.elem) {
        let names: Vec<_> = elems.iter().map(ToString::to_string).collect();
        return Err(AttentionError::DType {
            argument,
            given: tensor.elem.to_string(),
            accepted: names.join(" or "),
        });
    }
    if step(tensor, 3) > 1 {
        return Err(AttentionError::Value {
            argument,
            given: format!("strided by {}", tensor.strides[3]),
            accepted: "contiguous".into(),
        });
    }
    Ok(())
}

/// Cubes for tiles over the `rows` rows of each head: one head per y, one batch element per z, as often as the plan
/// has copies. A rasterizer's threads share a launch along z.
pub(crate) fn cubes(plan: &Plan, batch: usize, heads: usize, rows: usize) -> CubeCount {
    CubeCount::new_3d(
        plan.cubes(rows, 1) as u32,
        heads as u32,
        (batch * plan.copies()) as u32,
    )
}

/// Nobody's claims to the tiles of a launch, where its units claim them.
pub(crate) fn claims<O: From<Option<ClaimsLaunch>>>(
    client: &Client,
    plan: &Plan,
    cubes: &CubeCount,
) -> O {
    let claims = match cubes {
        CubeCount::Static(x, y, z) if plan.claims_tiles => {
            let cubes: usize = [x, y, z].map(|axis| *axis as usize).iter().product();
            let claimed = if plan.tile_per_unit {
                1
            } else {
                plan.units as usize
            };
            let count = cubes / plan.copies() * claimed;
            let zeros = zeros(client, count, WORDS[0]);
            // SAFETY: there is a number for each cube, or each of its units.
            Some(ClaimsLaunch::new(unsafe {
                BufferArg::from_raw_parts(zeros, count)
            }))
        }
        _ => None,
    };
    claims.into()
}

/// Cubes that every device launches along an axis.
pub(crate) const AXIS: usize = 65535;

/// At least `count` cubes, within an axis.
pub(crate) fn spread(count: usize) -> CubeCount {
    let y = count.div_ceil(AXIS).max(1);
    let x = count.div_ceil(y);
    CubeCount::new_2d(x as u32, y as u32)
}
