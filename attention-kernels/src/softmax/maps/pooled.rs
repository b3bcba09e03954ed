//! The mean over the heads, pooled to a grid.

use attention_core::{AttentionError, AttentionSpec};
use cubecl::{client::Client, prelude::*, server::Handle};

use super::{
    super::{
        args::{Blueprint, Layout, ScoreTable, Sizes},
        bind::{self, bind, cubes, layout, table},
        key_walk::KeyWalk,
        plan::Walk,
        rows::{first_query, own_rows, tile_count, tile_index},
        setup::Setup,
    },
    MapInputs,
    cells::{Partition, PartitionLaunch, split},
    columns::{column_weights, load_keys, store_keys},
};
use crate::{
    modification::{CapturedData, Code},
    tile::{filled, packed},
    turns::turn,
};

/// Rows of `seq_kv` numbers that a batch element may need beside the result.
const SCRATCH_ROWS: usize = 64;

/// Blocks of queries that a unit walks over: fewer leave little between its setting up, more leave
/// units idle.
const BLOCKS_PER_UNIT: usize = 4;

/// The probabilities averaged over the heads and pooled to a grid of `[queries, keys]`, each at least
/// 1 and at most the sequence's length: `[batch, grid[0], grid[1]]` of f32.
///
/// A cell is the mean over its queries of the sum over its keys, so that a row of the grid whose
/// queries all see a key sums to 1. `n` positions fall into `g` cells in their order, the first
/// `n % g` of which have one more than the others.
///
/// # Errors
///
/// As [`forward`](crate::softmax::forward); an LSE of another shape or type than the forward's, a
/// grid of 0 or of more than there are positions.
pub fn pooled(
    client: &Client,
    inputs: &MapInputs,
    spec: &AttentionSpec,
    grid: [usize; 2],
) -> Result<Handle, AttentionError> {
    let mut setup = inputs.setup(client, spec)?;
    let problem = setup.problem;
    problem.check_grid(grid)?;
    let elements = problem.batch * grid[0] * grid[1];
    let at_once = cells_at_once(grid, problem.seq_kv);
    setup.address(elements.max(problem.batch * at_once * problem.seq_kv))?;
    let out = bind::empty(client, elements, bind::F32);
    for first in (0..grid[0]).step_by(at_once) {
        let cells = Cells {
            first,
            count: at_once.min(grid[0] - first),
            grid,
        };
        launch_cells(&setup, inputs, &cells, &out);
    }
    Ok(out)
}

/// So many that what lies between the two kernels is no larger than the result, or than a few rows.
fn cells_at_once(grid: [usize; 2], seq_kv: usize) -> usize {
    (grid[0] * grid[1] / seq_kv).max(SCRATCH_ROWS).min(grid[0])
}

/// The rows of the grid that one launch computes.
struct Cells {
    first: usize,
    count: usize,
    grid: [usize; 2],
}

fn launch_cells(setup: &Setup, inputs: &MapInputs, cells: &Cells, out: &Handle) {
    let client = setup.client;
    let problem = setup.problem;
    let forward = &inputs.forward;
    let plan = setup.plan(Walk::Backward);
    let widths = setup.widths(&plan, forward, &[]);
    let queries = split(problem.seq_q, cells.grid[0]);
    let keys = split(problem.seq_kv, cells.grid[1]);
    let per_unit = (BLOCKS_PER_UNIT * plan.tile.block / queries.least).max(1);
    let length = problem.batch * cells.count * problem.seq_kv;
    let scratch = bind::empty(client, length, bind::F32);
    let outputs = problem.batch * cells.count * cells.grid[1];
    // SAFETY: every lane's key is checked and every query clamped against the sizes, which the
    // shapes of the bound tensors have been checked against; cells partition the positions.
    unsafe {
        attention_map_cells::launch_unchecked(
            client,
            cubes(
                &plan,
                problem.batch,
                cells.count.div_ceil(per_unit),
                problem.seq_kv,
            ),
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
            BufferArg::from_raw_parts(scratch.clone(), length),
            layout(&forward.query, widths.head),
            layout(&forward.key, widths.head),
            setup.sizes(),
            PartitionLaunch::new(queries.least, queries.longer),
            cells.first,
            cells.count,
            per_unit,
            bind::captured(forward),
            forward.modification.code.clone(),
            setup.blueprint(&plan, forward, &[], 3),
            forward.query.elem,
            setup.mask_elem(forward),
        );
        attention_map_sum_keys::launch_unchecked(
            client,
            bind::spread(outputs.div_ceil(plan.units as usize)),
            CubeDim::new_1d(plan.units),
            setup.address,
            BufferArg::from_raw_parts(scratch, length),
            BufferArg::from_raw_parts(out.clone(), problem.batch * cells.grid[0] * cells.grid[1]),
            PartitionLaunch::new(keys.least, keys.longer),
            problem.seq_kv,
            outputs,
            cells.first,
            cells.count,
            cells.grid[0],
            cells.grid[1],
        );
    }
}

/// Each lane owns a key and averages its probabilities over the heads and over the queries of each
/// of the unit's cells: `scratch [batch, cells, seq_kv]`.
#[cube(launch_unchecked, address_type = "dynamic")]
fn attention_map_cells<E: Float, M: Numeric, N: Size, W: Size, R: Size>(
    query: &[Vector<E, W>],
    key: &[Vector<E, W>],
    lse: &[f32],
    mask: ComptimeOption<ScoreTable<M>>,
    bias: ComptimeOption<ScoreTable<E>>,
    scratch: &mut [f32],
    query_layout: Layout,
    key_layout: Layout,
    sizes: Sizes,
    partition: Partition,
    first_cell: usize,
    cells: usize,
    per_unit: usize,
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
        let length = comptime!(config.block * groups);
        let mut weights = filled::<N>(0.0f32, length, config.unroll);
        let mut sums = filled::<N>(0.0f32, length, config.unroll);
        let mut part = filled::<N>(0.0f32, groups, true);
        let mut total = filled::<N>(0.0f32, groups, true);

        // Rows of the grid lie along the axis that heads have in the other walks.
        let mut cell = own.head * per_unit;
        let start = partition.start(first_cell + cell);
        let end = partition.start(first_cell + min(cell + per_unit, cells));
        let mut cell_start = start;
        let mut cell_end = partition.start(first_cell + cell + 1);
        let seen_from = first_query(own.first, &sizes, blueprint.causal);
        let kv_heads = sizes.heads / blueprint.group;
        for index in 0..(end - start).div_ceil(comptime!(config.block)) {
            let token = start + index * comptime!(config.block);
            #[unroll(config.unroll)]
            for slot in 0..length {
                sums[slot] = Vector::new(0.0f32);
            }
            if token + comptime!(config.block) > seen_from {
                for kv_head in 0..kv_heads {
                    let kv_head = turn(kv_head, kv_heads);
                    let keys = load_keys::<E, N, R, W>(
                        &own,
                        key,
                        &key_layout,
                        kv_head,
                        sizes.seq_kv,
                        blueprint,
                    );
                    for member in 0..blueprint.group {
                        let member = turn(member, blueprint.group.runtime());
                        column_weights::<E, M, N, R, W>(
                            &walk,
                            &keys,
                            query,
                            &query_layout,
                            lse,
                            own.batch,
                            kv_head * blueprint.group + member,
                            token,
                            &mut weights,
                            &sizes,
                            blueprint,
                        );
                        #[unroll(config.unroll)]
                        for slot in 0..length {
                            sums[slot] += weights[slot];
                        }
                    }
                }
            }
            #[unroll(config.unroll)]
            for t in 0..comptime!(config.block) {
                if token + t < end {
                    #[unroll]
                    for g in 0..groups {
                        part[g] += sums[t * groups + g];
                    }
                    if token + t + 1 == cell_end {
                        let row = (own.batch * cells + cell) * sizes.seq_kv;
                        let terms = f32::cast_from((cell_end - cell_start) * sizes.heads);
                        #[unroll]
                        for g in 0..groups {
                            let mean = (total[g] + part[g]) / Vector::new(terms);
                            store_keys::<N>(mean, scratch, &own, row, sizes.seq_kv, g);
                            total[g] = Vector::new(0.0f32);
                            part[g] = Vector::new(0.0f32);
                        }
                        cell += 1;
                        cell_start = cell_end;
                        cell_end = partition.start(first_cell + cell + 1);
                    }
                }
            }
            #[unroll]
            for g in 0..groups {
                total[g] += part[g];
                part[g] = Vector::new(0.0f32);
            }
        }
    }
}

/// Keys whose sum joins the total at once.
const KEY_CHAIN: usize = 16;

/// Sums the keys of each cell: `scratch [batch, cells, seq_kv]` into rows of `out [batch, rows, columns]`
/// from row `first` on. One unit per result.
#[cube(launch_unchecked, address_type = "dynamic")]
fn attention_map_sum_keys(
    scratch: &[f32],
    out: &mut [f32],
    partition: Partition,
    seq_kv: usize,
    outputs: usize,
    first: usize,
    cells: usize,
    rows: usize,
    columns: usize,
) {
    if ABSOLUTE_POS < outputs {
        let column = ABSOLUTE_POS % columns;
        let row = ABSOLUTE_POS / columns;
        let (batch, cell) = (row / cells, row % cells);
        let start = partition.start(column);
        let length = partition.start(column + 1) - start;
        let mut total = f32::new(0.0);
        for chain in 0..length.div_ceil(KEY_CHAIN) {
            let mut part = f32::new(0.0);
            for key in chain * KEY_CHAIN..min(chain * KEY_CHAIN + KEY_CHAIN, length) {
                part += scratch[row * seq_kv + start + key];
            }
            total += part;
        }
        out[(batch * rows + first + cell) * columns + column] = total;
    }
}
