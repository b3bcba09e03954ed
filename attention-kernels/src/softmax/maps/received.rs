//! How much attention each key receives.

use attention_core::{AttentionError, AttentionProblem, AttentionSpec};
use cubecl::{client::Client, prelude::*, server::Handle};

use super::{
    super::{
        args::{Blueprint, Layout, ScoreTable, Sizes},
        bind::{self, bind, cubes, layout, table},
        key_walk::KeyWalk,
        plan::Walk,
        rows::{first_query, key_head, own_rows, tile_count, tile_index},
        setup::Setup,
    },
    MapInputs,
    columns::{column_weights, load_keys, store_keys},
};
use crate::{
    modification::{CapturedData, Code},
    tile::{filled, packed},
};

/// Blocks of queries whose sum joins the total at once: an error grows with the root of the length
/// of its chain of roundings.
const BLOCK_CHAIN: usize = 16;

/// The probabilities of each key summed over the queries: `[batch, heads, seq_kv]` of f32.
///
/// # Errors
///
/// As [`forward`](crate::softmax::forward); an LSE of another shape or type than the forward's.
pub fn received(
    client: &Client,
    inputs: &MapInputs,
    spec: &AttentionSpec,
) -> Result<Handle, AttentionError> {
    let mut setup = inputs.setup(client, spec)?;
    let problem = setup.problem;
    let elements = problem.batch * problem.heads * problem.seq_kv;
    setup.address(elements)?;
    let out = bind::empty(client, elements, bind::F32);
    if elements > 0 {
        launch_received(&setup, inputs, &out);
    }
    Ok(out)
}

fn launch_received(setup: &Setup, inputs: &MapInputs, out: &Handle) {
    let AttentionProblem {
        batch,
        heads,
        seq_kv,
        ..
    } = setup.problem;
    let forward = &inputs.forward;
    let plan = setup.plan(Walk::Backward);
    let widths = setup.widths(&plan, forward, &[]);
    let [query] = setup.readable([&forward.query], &forward.key);
    // SAFETY: every lane's key is checked and every query clamped against the sizes, which the
    // shapes of the bound tensors have been checked against.
    unsafe {
        attention_map_received::launch_unchecked(
            setup.client,
            cubes(&plan, batch, heads, seq_kv),
            CubeDim::new_1d(plan.units),
            setup.address,
            plan.lanes,
            widths.head,
            plan.lanes * widths.head,
            bind(query, widths.head),
            bind(&forward.key, widths.head),
            bind(&inputs.lse, 1),
            table(forward.mask.as_ref()),
            table(forward.bias.as_ref()),
            BufferArg::from_raw_parts(out.clone(), batch * heads * seq_kv),
            layout(&forward.query, widths.head),
            layout(&forward.key, widths.head),
            setup.sizes(),
            bind::captured(forward),
            forward.modification.code.clone(),
            setup.blueprint(&plan, forward, &[], 3),
            forward.query.elem,
            setup.mask_elem(forward),
        );
    }
}

/// Each lane owns a key and sums over the queries that see it.
#[cube(launch_unchecked, address_type = "dynamic")]
fn attention_map_received<E: Float, M: Numeric, N: Size, W: Size, R: Size>(
    query: &[Vector<E, W>],
    key: &[Vector<E, W>],
    lse: &[f32],
    mask: ComptimeOption<ScoreTable<M>>,
    bias: ComptimeOption<ScoreTable<E>>,
    out: &mut [f32],
    query_layout: Layout,
    key_layout: Layout,
    sizes: Sizes,
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
        let mut total = filled::<N>(0.0f32, groups, true);

        let start = first_query(own.first, &sizes, blueprint.causal);
        let blocks = (max(sizes.seq_q, start) - start).div_ceil(comptime!(config.block));
        for chain in 0..blocks.div_ceil(BLOCK_CHAIN) {
            let mut part = filled::<N>(0.0f32, groups, true);
            for index in chain * BLOCK_CHAIN..min(chain * BLOCK_CHAIN + BLOCK_CHAIN, blocks) {
                column_weights::<E, M, N, R, W>(
                    &walk,
                    &keys,
                    query,
                    &query_layout,
                    lse,
                    own.batch,
                    own.head,
                    start + index * comptime!(config.block),
                    &mut weights,
                    &sizes,
                    blueprint,
                );
                let mut block = filled::<N>(0.0f32, groups, true);
                #[unroll(config.unroll)]
                for t in 0..comptime!(config.block) {
                    #[unroll]
                    for g in 0..groups {
                        block[g] += weights[t * groups + g];
                    }
                }
                #[unroll]
                for g in 0..groups {
                    part[g] += block[g];
                }
            }
            #[unroll]
            for g in 0..groups {
                total[g] += part[g];
            }
        }
        let first = (own.batch * sizes.heads + own.head) * sizes.seq_kv;
        #[unroll]
        for g in 0..groups {
            store_keys::<N>(total[g], out, &own, first, sizes.seq_kv, g);
        }
    }
}
