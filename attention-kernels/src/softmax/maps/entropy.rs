//! How widely each query spreads its attention.

use attention_core::{AttentionError, AttentionProblem, AttentionSpec};
use cubecl::{client::Client, prelude::*, server::Handle};

use super::{
    super::{
        args::{Blueprint, Layout, ScoreTable, Sizes},
        bind::{self, bind, cubes, layout, table},
        plan::Walk,
        rows::{own_rows, tile_count, tile_index},
        score::{HIDDEN, weight},
        setup::Setup,
    },
    MapInputs,
    lanes::QueryLanes,
};
use crate::{
    modification::{CapturedData, Code},
    tile::{filled, packed},
};

/// The entropy of each query's probabilities in nats, `-sum of P ln P`: `[batch, heads, seq_q]` of
/// f32; 0 for a query that sees no key or one, `ln n` where `n` keys are seen alike.
///
/// # Errors
///
/// As [`forward`](crate::softmax::forward); an LSE of another shape or type than the forward's.
pub fn entropy(
    client: &Client,
    inputs: &MapInputs,
    spec: &AttentionSpec,
) -> Result<Handle, AttentionError> {
    let setup = inputs.setup(client, spec)?;
    let problem = setup.problem;
    let rows = problem.batch * problem.heads * problem.seq_q;
    let out = bind::empty(client, rows, bind::F32);
    if rows > 0 {
        launch_entropy(&setup, inputs, &out);
    }
    Ok(out)
}

fn launch_entropy(setup: &Setup, inputs: &MapInputs, out: &Handle) {
    let AttentionProblem {
        batch,
        heads,
        seq_q,
        ..
    } = setup.problem;
    let forward = &inputs.forward;
    let plan = setup.plan(Walk::Forward);
    let widths = setup.widths(&plan, forward, &[]);
    let [key] = setup.readable([&forward.key], &forward.query);
    // SAFETY: every lane's row and token is clamped to the problem's sizes, which the shapes of
    // the bound tensors have been checked against.
    unsafe {
        attention_map_entropy::launch_unchecked(
            setup.client,
            cubes(&plan, batch, heads, seq_q),
            CubeDim::new_1d(plan.units),
            setup.address,
            plan.lanes,
            widths.head,
            plan.lanes * widths.head,
            bind(&forward.query, widths.head),
            bind(key, widths.head),
            bind(&inputs.lse, 1),
            table(forward.mask.as_ref()),
            table(forward.bias.as_ref()),
            BufferArg::from_raw_parts(out.clone(), batch * heads * seq_q),
            layout(&forward.query, widths.head),
            layout(&forward.key, widths.head),
            setup.sizes(),
            bind::captured(forward),
            forward.modification.code.clone(),
            setup.blueprint(&plan, forward, &[], 2),
            forward.query.elem,
            setup.mask_elem(forward),
        );
    }
}

/// Each lane owns a query: `-P ln P = P * (LSE - S)`, without a logarithm.
#[cube(launch_unchecked, address_type = "dynamic")]
fn attention_map_entropy<E: Float, M: Numeric, N: Size, W: Size, R: Size>(
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
    if tile < tile_count::<N>(sizes.seq_q, blueprint) {
        let own = own_rows::<N>(tile, sizes.seq_q, blueprint);
        let config = comptime!(blueprint.tile);
        let groups = comptime!(config.groups);
        let lanes = N::value();
        let rows = QueryLanes::<E, M, N, R>::new::<W>(
            &own,
            query,
            lse,
            mask,
            bias,
            &query_layout,
            &key_layout,
            &captured,
            &sizes,
            code,
            blueprint,
        );
        let hidden = Vector::<f32, N>::new(f32::new(HIDDEN));
        let mut scores = filled::<N>(0.0f32, comptime!(config.block * groups), config.unroll);
        let mut total = filled::<N>(0.0f32, groups, true);
        for index in 0..rows.end.div_ceil(comptime!(config.block)) {
            let token = index * comptime!(config.block);
            rows.scores::<W>(key, token, &mut scores, &sizes, blueprint);
            let mut part = filled::<N>(0.0f32, groups, true);
            #[unroll(config.unroll)]
            for t in 0..comptime!(config.block) {
                #[unroll]
                for g in 0..groups {
                    // A bias of minus infinity has a depth that a weight of 0 does not undo.
                    let score = max(scores[t * groups + g], hidden);
                    let depth = rows.reference[g] - score;
                    part[g] += weight::<N>(score, rows.reference[g], blueprint) * depth;
                }
            }
            #[unroll]
            for g in 0..groups {
                total[g] += part[g];
            }
        }
        #[unroll]
        for g in 0..groups {
            let entropy = max(total[g], Vector::new(0.0f32));
            #[unroll]
            for lane in 0..lanes {
                let row = own.rows[comptime!(g * lanes + lane)];
                if row < sizes.seq_q {
                    out[rows.first + row] = entropy.extract(lane);
                }
            }
        }
    }
}
