//! Refuses what cannot run before anything is launched.

use attention_core::{AttentionError, AttentionProblem};
use cubecl::{
    client::Client,
    features::TypeUsage,
    ir::{ElemType, FloatKind, UIntKind},
};

use super::{bind, tensors::Inputs};

/// Refuses element types that do not fit each other or that the device does not have.
pub(crate) fn check_elements(client: &Client, inputs: &Inputs) -> Result<(), AttentionError> {
    let elem = inputs.query.elem;
    let offered = offered_floats(client);
    if !offered.contains(&elem) {
        let names: Vec<_> = offered.iter().map(ToString::to_string).collect();
        return Err(wrong_dtype("query", elem, names.join(", ")));
    }
    let others = [
        ("key", Some(&inputs.key)),
        ("value", Some(&inputs.value)),
        ("bias", inputs.bias.as_ref()),
    ];
    for (argument, tensor) in others {
        if let Some(tensor) = tensor.filter(|tensor| tensor.elem != elem) {
            return Err(wrong_dtype(
                argument,
                tensor.elem,
                format!("{elem}, the query's"),
            ));
        }
    }
    match inputs.mask.as_ref().map(|mask| mask.elem) {
        None | Some(ElemType::UInt(UIntKind::U8 | UIntKind::U32)) => Ok(()),
        Some(other) => Err(wrong_dtype("mask", other, "u8 or u32".into())),
    }
}

/// Refuses a map that is not one for this attention.
pub(crate) fn check_blocks(
    inputs: &Inputs,
    problem: &AttentionProblem,
) -> Result<(), AttentionError> {
    let Some(map) = &inputs.block_map else {
        return Ok(());
    };
    map.shape.validate()?;
    map.shape.check_fits(problem)?;
    for (argument, list, elements) in [
        ("block_map.rows", &map.rows, map.shape.rows_len()),
        ("block_map.columns", &map.columns, map.shape.columns_len()),
    ] {
        bind::check_flat(argument, Some(list), elements, "the map's", &bind::WORDS)?;
    }
    Ok(())
}

/// Refuses more heads or batch elements than the axes of a launch hold.
pub(crate) fn check_grid(
    client: &Client,
    problem: &AttentionProblem,
) -> Result<(), AttentionError> {
    let (_, heads, batch) = client.properties().hardware.max_cube_count;
    if problem.heads > heads as usize || problem.batch > batch as usize {
        return Err(AttentionError::Value {
            argument: "query's batch and heads",
            given: format!("{} and {}", problem.batch, problem.heads),
            accepted: format!("at most {batch} and {heads} on this device"),
        });
    }
    Ok(())
}

/// The float types that buffers on the device may hold and kernels may convert.
fn offered_floats(client: &Client) -> Vec<ElemType> {
    [FloatKind::F32, FloatKind::F16, FloatKind::BF16]
        .map(ElemType::Float)
        .into_iter()
        .filter(|&elem| {
            let usage = client.properties().type_usage(elem);
            usage.contains(TypeUsage::Buffer) && usage.contains(TypeUsage::Conversion)
        })
        .collect()
}

/// The refusal of an element type.
pub(crate) fn wrong_dtype(
    argument: &'static str,
    given: ElemType,
    accepted: String,
) -> AttentionError {
    AttentionError::DType {
        argument,
        given: given.to_string(),
        accepted,
    }
}
