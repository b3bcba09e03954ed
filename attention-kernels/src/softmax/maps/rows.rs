//! The probabilities of chosen queries.

use attention_core::{AttentionError, AttentionProblem, AttentionSpec};
use cubecl::{client::Client, prelude::*, server::Handle};

use super::{
    super::{
        args::{Blueprint, Layout, ScoreTable, Sizes},
        bind::{self, bind, cubes, layout, table},
        key_walk::KeyWalk,
        plan::Walk,
        rows::{key_head, own_rows, tile_count, tile_index},
        setup::Setup,
    },
    MapInputs,
    chosen::Chosen,
    columns::{column_weights, load_keys, store_keys},
};
use crate::{
    modification::{CapturedData, Code},
    tile::{filled, packed},
    turns::turn,
};

/// The probabilities of the queries at `positions`: `[batch, heads, positions, seq_kv]` of f32, in
/// the order of the positions, which may repeat.
///
/// # Errors
///
/// As [`forward`](crate::softmax::forward); an LSE of another shape or type than the forward's, a
/// position beyond the last query.
pub fn rows(
    client: &Client,
    inputs: &MapInputs,
    spec: &AttentionSpec,
    positions: &[usize],
) -> Result<Handle, AttentionError> {
    let mut setup = inputs.setup(client, spec)?;
    let problem = setup.problem;
    problem.check_rows(positions)?;
    let elements = problem.batch * problem.heads * positions.len() * problem.seq_kv;
    setup.address(elements)?;
    let out = bind::empty(client, elements, bind::F32);
    if elements > 0 {
        launch_rows(&setup, inputs, positions, &out);
    }
    Ok(out)
}

pub(super) fn launch_rows(setup: &Setup, inputs: &MapInputs, positions: &[usize], out: &Handle) {
    let AttentionProblem {
        batch,
        heads,
        seq_kv,
        ..
    } = setup.problem;
    let forward = &inputs.forward;
    let mut plan = setup.plan(Walk::Backward);
    let chosen = Chosen::new(positions, &mut plan);
    let widths = setup.widths(&plan, forward, &[]);
    // SAFETY: every lane's key is checked and every query clamped against the sizes, which the
    // shapes of the bound tensors have been checked against; the runs cover `chosen` rows.
    unsafe {
        attention_map_rows::launch_unchecked(
            setup.client,
            cubes(&plan, batch, heads, seq_kv),
            CubeDim::new_1d(plan.units),
            setup.address,
            plan.lanes,
            widths.head,
            plan.lanes * widths.head,
            bind(&forward.query, widths.head),
            bind(&forward.key, widths.head),
            bind(&inputs.lse, 1),
            chosen.upload(setup.client),
            table(forward.mask.as_ref()),
            table(forward.bias.as_ref()),
            BufferArg::from_raw_parts(out.clone(), batch * heads * chosen.count * seq_kv),
            layout(&forward.query, widths.head),
            layout(&forward.key, widths.head),
            setup.sizes(),
            chosen.runs(),
            chosen.count,
            bind::captured(forward),
            forward.modification.code.clone(),
            setup.blueprint(&plan, forward, &[], 3),
            forward.query.elem,
            setup.mask_elem(forward),
        );
    }
}

/// Each lane owns a key and meets the runs of chosen queries.
#[cube(launch_unchecked, address_type = "dynamic")]
fn attention_map_rows<E: Float, M: Numeric, N: Size, W: Size, R: Size>(
    query: &[Vector<E, W>],
    key: &[Vector<E, W>],
    lse: &[f32],
    runs: &[u32],
    mask: ComptimeOption<ScoreTable<M>>,
    bias: ComptimeOption<ScoreTable<E>>,
    out: &mut [f32],
    query_layout: Layout,
    key_layout: Layout,
    sizes: Sizes,
    run_count: usize,
    chosen: usize,
    captured: CapturedData,
    #[comptime] code: Code,
    #[comptime] blueprint: Blueprint,
    #[define(E)] _dtype: ElemType,
    #[define(M)] _mask_dtype: ElemType,
) {
    let query_layout = packed(&query_layout, blueprint.packed);
    let key_layout = packed(&key_layout, blueprint.packed);
    let tile = tile_index(blueprint);
    if tile < tile_count::<N>(sizes.seq_kv, blueprint) {
        let own = own_rows::<N>(tile, sizes.seq_kv, blueprint);
        let walk = KeyWalk::<E, M, N>::new(&own, mask, bias, &captured, &sizes, code, blueprint);
        let config = comptime!(blueprint.tile);
        let groups = comptime!(config.groups);
        let kv_head = key_head(own.head, blueprint);
        let keys =
            load_keys::<E, N, R, W>(&own, key, &key_layout, kv_head, sizes.seq_kv, blueprint);
        let mut weights = filled::<N>(0.0f32, comptime!(config.block * groups), config.unroll);

        let mut row = (own.batch * sizes.heads + own.head) * chosen;
        for run in 0..run_count {
            let run = 2 * turn(run, run_count);
            let token = runs[run] as usize;
            let length = runs[run + 1] as usize;
            column_weights::<E, M, N, R, W>(
                &walk,
                &keys,
                query,
                &query_layout,
                lse,
                own.batch,
                own.head,
                token,
                &mut weights,
                &sizes,
                blueprint,
            );
            #[unroll(config.unroll)]
            for t in 0..comptime!(config.block) {
                if t < length {
                    #[unroll]
                    for g in 0..groups {
                        store_keys::<N>(
                            weights[t * groups + g],
                            out,
                            &own,
                            (row + t) * sizes.seq_kv,
                            sizes.seq_kv,
                            g,
                        );
                    }
                }
            }
            row += length;
        }
    }
}
