//! The keys that each query attends to most.

use attention_core::{AttentionError, AttentionProblem, AttentionSpec};
use cubecl::{client::Client, prelude::*, server::Handle};

use super::{
    super::{
        args::{Blueprint, Layout, ScoreTable, Sizes},
        bind::{self, bind, cubes, layout, table},
        plan::Walk,
        rows::{own_rows, tile_count, tile_index},
        score::weight,
        setup::Setup,
    },
    MapInputs,
    lanes::QueryLanes,
};
use crate::{
    modification::{CapturedData, Code},
    tile::{filled, packed},
};

/// Keys and their probabilities, `[batch, heads, seq_q, k]`, contiguous.
#[derive(Debug, Clone)]
pub struct TopKeys {
    /// Of f32, largest first.
    pub probabilities: Handle,
    /// Positions, of u32.
    pub keys: Handle,
}

/// The `k` keys of largest probability of each query, the largest first and among equals the key of
/// lower position: what a stable sort of the row puts first.
///
/// Where a query sees fewer than `k` keys, the others of its list have probability 0 and are keys
/// that it does not see, in the order of their positions: every position is one of the sequence, and
/// none appears twice. The time grows with `k` for each key that enters a list.
///
/// # Errors
///
/// As [`forward`](crate::softmax::forward); an LSE of another shape or type than the forward's, a
/// `k` of 0 or of more than there are keys.
pub fn top_keys(
    client: &Client,
    inputs: &MapInputs,
    spec: &AttentionSpec,
    k: usize,
) -> Result<TopKeys, AttentionError> {
    let mut setup = inputs.setup(client, spec)?;
    let problem = setup.problem;
    problem.check_top_keys(k)?;
    let rows = problem.batch * problem.heads * problem.seq_q;
    setup.address(rows * k)?;
    let top = TopKeys {
        probabilities: bind::empty(client, rows * k, bind::F32),
        keys: bind::empty(client, rows * k, bind::F32),
    };
    if rows > 0 {
        launch_top_keys(&setup, inputs, k, &top);
    }
    Ok(top)
}

fn launch_top_keys(setup: &Setup, inputs: &MapInputs, k: usize, top: &TopKeys) {
    let AttentionProblem {
        batch,
        heads,
        seq_q,
        ..
    } = setup.problem;
    let forward = &inputs.forward;
    let plan = setup.plan(Walk::Backward);
    let widths = setup.widths(&plan, forward, &[]);
    let length = batch * heads * seq_q * k;
    // SAFETY: every lane's row and token is clamped to the problem's sizes, which the shapes of
    // the bound tensors have been checked against; lists have `k` places.
    unsafe {
        attention_map_top_keys::launch_unchecked(
            setup.client,
            cubes(&plan, batch, heads, seq_q),
            CubeDim::new_1d(plan.units),
            setup.address,
            plan.lanes,
            widths.head,
            plan.lanes * widths.head,
            bind(&forward.query, widths.head),
            bind(&forward.key, widths.head),
            bind(&inputs.lse, 1),
            table(forward.mask.as_ref()),
            table(forward.bias.as_ref()),
            BufferArg::from_raw_parts(top.probabilities.clone(), length),
            BufferArg::from_raw_parts(top.keys.clone(), length),
            layout(&forward.query, widths.head),
            layout(&forward.key, widths.head),
            setup.sizes(),
            k,
            bind::captured(forward),
            forward.modification.code.clone(),
            setup.blueprint(&plan, forward, &[], 2),
            forward.query.elem,
            setup.mask_elem(forward),
        );
    }
}

/// Each lane owns a query and keeps its list sorted where it is written.
#[cube(launch_unchecked, address_type = "dynamic")]
fn attention_map_top_keys<E: Float, M: Numeric, N: Size, W: Size, R: Size>(
    query: &[Vector<E, W>],
    key: &[Vector<E, W>],
    lse: &[f32],
    mask: ComptimeOption<ScoreTable<M>>,
    bias: ComptimeOption<ScoreTable<E>>,
    probabilities: &mut [f32],
    positions: &mut [u32],
    query_layout: Layout,
    key_layout: Layout,
    sizes: Sizes,
    k: usize,
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
        let mut scores = filled::<N>(0.0f32, comptime!(config.block * groups), config.unroll);
        // What a key has to exceed: while lists have places, everything enters.
        let mut least = filled::<N>(-1.0f32, groups, true);
        let blocks = rows.end.div_ceil(comptime!(config.block));
        for index in 0..blocks {
            let token = index * comptime!(config.block);
            let count = min(sizes.seq_kv - token, comptime!(config.block).runtime());
            rows.scores::<W>(key, token, &mut scores, &sizes, blueprint);
            let mut highest = filled::<N>(-1.0f32, groups, true);
            #[unroll(config.unroll)]
            for t in 0..comptime!(config.block) {
                #[unroll]
                for g in 0..groups {
                    let slot = t * groups + g;
                    scores[slot] = weight::<N>(scores[slot], rows.reference[g], blueprint);
                    highest[g] = max(highest[g], scores[slot]);
                }
            }
            #[unroll]
            for g in 0..groups {
                #[unroll]
                for lane in 0..lanes {
                    let row = own.rows[comptime!(g * lanes + lane)];
                    if row < sizes.seq_q && highest[g].extract(lane) > least[g].extract(lane) {
                        let start = (rows.first + row) * k;
                        let mut bar = least[g].extract(lane);
                        #[unroll(config.unroll)]
                        for t in 0..comptime!(config.block) {
                            let found = scores[t * groups + g].extract(lane);
                            if t < count && found > bar {
                                bar = enter(probabilities, positions, start, k, token + t, found);
                            }
                        }
                        let mut bars = least[g];
                        bars.insert(lane, bar);
                        least[g] = bars;
                    }
                }
            }
        }
        // Keys that no query of the tile sees fill the places that are left.
        let met = min(blocks * comptime!(config.block), sizes.seq_kv);
        #[unroll]
        for slot in 0..comptime!(groups * lanes) {
            let row = own.rows[slot];
            if row < sizes.seq_q {
                let start = (rows.first + row) * k;
                for place in min(met, k)..k {
                    probabilities[start + place] = f32::new(0.0);
                    positions[start + place] = place as u32;
                }
            }
        }
    }
}

/// Enters the key at `position` into the list that begins at `start`, and returns what the next one
/// has to exceed. Keys come in the order of their positions, the first `k` of them all enter.
#[cube]
fn enter(
    probabilities: &mut [f32],
    positions: &mut [u32],
    start: usize,
    k: usize,
    position: usize,
    probability: f32,
) -> f32 {
    let places = min(position, k - 1);
    let mut at = start + places;
    for step in 0..places {
        let before = start + places - 1 - step;
        let other = probabilities[before];
        if other < probability {
            probabilities[before + 1] = other;
            positions[before + 1] = positions[before];
            at = before;
        }
    }
    probabilities[at] = probability;
    positions[at] = position as u32;
    let last = probabilities[start + k - 1];
    select(position + 1 < k, f32::new(-1.0), last)
}
