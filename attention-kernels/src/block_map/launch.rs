//! Makes a map: check, classify, list.

use attention_core::AttentionError;
use cubecl::{
    client::Client,
    ir::{AddressType, ElemType, UIntKind},
    prelude::*,
    server::Handle,
};

use super::{
    BlockMap, BlockShape,
    classify::{MapSizesLaunch, classify_tiles, list_tiles},
};
use crate::{
    TensorRef,
    modification::{CapturedRefs, Modification, captured_data, check_captured},
    softmax::{Plan, bind},
};

const WORD: ElemType = ElemType::UInt(UIntKind::U32);

/// The map of a mask. `modification` holds the mask as code, `floats` and `integers` its captured
/// tensors as [`Inputs`](crate::softmax::Inputs) has them.
///
/// # Errors
///
/// Sizes that no map has, captured tensors that are not the mask's, and a modification without a
/// mask are refused before anything is launched.
pub fn block_map(
    client: &Client,
    modification: &Modification,
    floats: Option<&TensorRef>,
    integers: Option<&TensorRef>,
    shape: BlockShape,
) -> Result<BlockMap, AttentionError> {
    shape.validate()?;
    let captured = CapturedRefs {
        floats,
        integers,
        tables: None,
    };
    check_captured(modification, captured, client.properties())?;
    if !modification.code.masks() {
        return Err(AttentionError::Value {
            argument: "modification",
            given: "without a mask".into(),
            accepted: "a modification with a mask, whose blocks can be mapped".into(),
        });
    }
    let states = bind::empty(client, shape.tiles(), WORD);
    launch_states(client, modification, captured, shape, &states);
    let (q, kv) = (shape.q_blocks(), shape.kv_blocks());
    let rows = launch_lists(client, &states, shape, [q, kv], [kv, 1]);
    let columns = launch_lists(client, &states, shape, [kv, q], [1, kv]);
    let flat = |handle, elements| TensorRef::contiguous(handle, [1, 1, 1, elements], WORD);
    Ok(BlockMap {
        shape,
        rows: flat(rows, shape.rows_len()),
        columns: flat(columns, shape.columns_len()),
    })
}

fn launch_states(
    client: &Client,
    modification: &Modification,
    captured: CapturedRefs,
    shape: BlockShape,
    states: &Handle,
) {
    let (units, lanes) = Plan::units_and_lanes(client.properties());
    // SAFETY: units beyond the last tile do nothing, and places are clamped to the sequences.
    unsafe {
        classify_tiles::launch_unchecked(
            client,
            bind::spread(shape.tiles().div_ceil(units as usize)),
            CubeDim::new_1d(units),
            AddressType::U32,
            lanes,
            BufferArg::from_raw_parts(states.clone(), shape.tiles()),
            MapSizesLaunch::new(
                shape.batch,
                shape.heads,
                shape.seq_q,
                shape.seq_kv,
                shape.block_q,
                shape.block_kv,
                shape.q_blocks(),
                shape.kv_blocks(),
            ),
            captured_data(captured, modification),
            modification.code.clone(),
        );
    }
}

/// The lists of `own` blocks, each over the blocks `across`.
fn launch_lists(
    client: &Client,
    states: &Handle,
    shape: BlockShape,
    [own, across]: [usize; 2],
    [own_stride, across_stride]: [usize; 2],
) -> Handle {
    let pairs = shape.batch * shape.heads;
    let length = pairs * own * (across + 1);
    let lists = bind::empty(client, length, WORD);
    let (units, _) = Plan::units_and_lanes(client.properties());
    // SAFETY: units beyond the last list do nothing.
    unsafe {
        list_tiles::launch_unchecked(
            client,
            bind::spread((pairs * own).div_ceil(units as usize)),
            CubeDim::new_1d(units),
            AddressType::U32,
            BufferArg::from_raw_parts(states.clone(), shape.tiles()),
            BufferArg::from_raw_parts(lists.clone(), length),
            pairs,
            own,
            across,
            own_stride,
            across_stride,
        );
    }
    lists
}
