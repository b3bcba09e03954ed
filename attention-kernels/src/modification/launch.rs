//! Captured tensors as launch arguments.

use attention_core::AttentionError;

use super::{CapturedDataLaunch, Modification};
use crate::{TensorRef, softmax::bind};

/// What a modification captured.
pub(crate) fn captured_data(
    floats: Option<&TensorRef>,
    integers: Option<&TensorRef>,
    modification: &Modification,
) -> CapturedDataLaunch {
    let buffer = |tensor: Option<&TensorRef>| tensor.map(|tensor| bind::bind(tensor, 1));
    CapturedDataLaunch::of(buffer(floats), buffer(integers), &modification.values)
}

/// Refuses tensors that are not those which the modification was made with.
pub(crate) fn check_captured(
    modification: &Modification,
    floats: Option<&TensorRef>,
    integers: Option<&TensorRef>,
) -> Result<(), AttentionError> {
    let lengths = &modification.values;
    let captured = [
        ("floats", floats, &lengths.floats, &[bind::F32][..]),
        ("integers", integers, &lengths.integers, &bind::WORDS[..]),
    ];
    for (argument, tensor, lengths, elems) in captured {
        let elements = lengths.iter().map(|&length| length as usize).sum::<usize>();
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
