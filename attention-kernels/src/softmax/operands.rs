//! The tensors that an engine multiplies: those of a call, or what their elements are converted to.

use std::{borrow::Cow, sync::OnceLock};

use cubecl::{ir::AddressType, prelude::*};

use super::{
    bind::{self, bind, extent, layout},
    plan::Plan,
    setup::{Setup, widest},
    tensors::{BackwardInputs, Inputs},
};
use crate::{
    TensorRef,
    tile::{RowTile, attention_terms},
};

/// Units of a cube that converts, and elements that each of them takes at most.
const UNITS: u32 = 256;
const WIDTH: usize = 4;

/// What the forward multiplies.
pub(crate) fn forward_operands<'a>(
    setup: &Setup,
    inputs: &'a Inputs,
    plan: &Plan,
) -> Cow<'a, Inputs> {
    if plan.tile.operand_elem(setup.elem) == setup.elem {
        return Cow::Borrowed(inputs);
    }
    let converted = |tensor| converted(setup, tensor, plan.tile);
    Cow::Owned(Inputs {
        query: converted(&inputs.query),
        key: converted(&inputs.key),
        value: converted(&inputs.value),
        ..inputs.clone()
    })
}

/// What the walks of the backward multiply: converted by the first of them.
pub(crate) fn backward_operands<'a>(
    setup: &Setup,
    inputs: &'a BackwardInputs,
    plan: &Plan,
    known: &'a OnceLock<BackwardInputs>,
) -> &'a BackwardInputs {
    if plan.tile.operand_elem(setup.elem) == setup.elem {
        return inputs;
    }
    known.get_or_init(|| {
        let mut operands = BackwardInputs {
            forward: forward_operands(setup, &inputs.forward, plan).into_owned(),
            grad_out: converted(setup, &inputs.grad_out, plan.tile),
            ..inputs.clone()
        };
        if plan.tile.terms > 1 {
            operands.out = converted(setup, &inputs.out, plan.tile);
        }
        operands
    })
}

/// Where 32 bits do not address all of the operands either.
pub(crate) fn address(setup: &Setup, operands: &[&TensorRef]) -> AddressType {
    let largest = operands.iter().map(|tensor| extent(tensor)).max();
    if largest.is_some_and(|elements| u32::try_from(elements).is_err()) {
        AddressType::U64
    } else {
        setup.address
    }
}

/// A tensor of what another's elements are multiplied as; one without elements as it is.
fn converted(setup: &Setup, tensor: &TensorRef, tile: RowTile) -> TensorRef {
    if extent(tensor) == 0 {
        return tensor.clone();
    }
    let [batch, heads, seq, dim] = tensor.shape;
    let rows = batch * heads * seq;
    let shape = [batch, heads, seq, tile.held(dim)];
    let elem = tile.operand_elem(tensor.elem);
    let handle = bind::empty(setup.client, shape.iter().product(), elem);
    let target = TensorRef::contiguous(handle, shape, elem);
    let width = widest(WIDTH, &[tensor]);
    let units = rows * (tile.held(dim) / tile.terms / width);
    // SAFETY: every unit's row is compared with the number of rows, and its column lies within one.
    unsafe {
        attention_terms::launch_unchecked(
            setup.client,
            bind::spread(units.div_ceil(UNITS as usize)),
            CubeDim::new_1d(UNITS),
            address(setup, &[&target]),
            width,
            bind(tensor, width),
            bind(&target, width),
            layout(tensor, width),
            heads,
            seq,
            rows,
            dim,
            tile.held(dim),
            tile.terms,
            tensor.elem,
            elem,
        );
    }
    target
}
