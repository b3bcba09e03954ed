//! Captured tensors as launch arguments.

use attention_core::AttentionError;
use cubecl::ir::DeviceProperties;

use super::{CapturedDataLaunch, Modification};
use crate::{TensorRef, softmax::bind};

/// The tensors that a modification captured, one buffer of each kind.
#[derive(Clone, Copy)]
pub(crate) struct CapturedRefs<'a> {
    pub floats: Option<&'a TensorRef>,
    pub integers: Option<&'a TensorRef>,
    pub tables: Option<&'a TensorRef>,
}

/// What a modification captured.
pub(crate) fn captured_data(
    tensors: CapturedRefs,
    modification: &Modification,
) -> CapturedDataLaunch {
    let buffer = |tensor: Option<&TensorRef>| tensor.map(|tensor| bind::bind(tensor, 1));
    CapturedDataLaunch::of(
        buffer(tensors.floats),
        buffer(tensors.integers),
        buffer(tensors.tables),
        &modification.values,
    )
}

/// Refuses tensors that are not those which the modification was made with, and functions that read
/// values which they did not capture.
pub(crate) fn check_captured(
    modification: &Modification,
    tensors: CapturedRefs,
    properties: &DeviceProperties,
) -> Result<(), AttentionError> {
    modification.check_demands(properties)?;
    let [floats, integers, tables] = modification.captured_elements();
    let float = &[bind::F32][..];
    for (argument, tensor, elements, elems) in [
        ("floats", tensors.floats, floats, float),
        ("integers", tensors.integers, integers, &bind::WORDS),
        ("tables", tensors.tables, tables, float),
    ] {
        bind::check_flat(
            argument,
            tensor,
            elements,
            "what the modification captured",
            elems,
        )?;
    }
    Ok(())
}

/// Refuses tables that have entries neither for all heads alike nor for each of the `heads`.
pub(crate) fn check_tables(
    modification: &Modification,
    heads: usize,
) -> Result<(), AttentionError> {
    let mut tables = modification.values.tables.iter();
    tables.try_for_each(|table| table.validate(heads))
}
