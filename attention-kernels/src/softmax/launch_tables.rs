//! The gradients of learned tables: plan, launch, sum.

use cubecl::{prelude::*, server::Handle};

use super::{
    backward_bias::attention_sum_slots,
    backward_table::{TableSumsLaunch, attention_backward_table},
    bind::{self, bind, cubes, table},
    delta::STATS,
    plan::{Plan, Walk},
    setup::Setup,
    tensors::BackwardInputs,
};
use crate::modification::Table;

/// Sums that one table may take in memory, unless its rows are fewer than those of a launch.
const MOST_SUMS: usize = 1 << 22;

/// The gradients of all tables, one after the other.
pub(crate) fn launch_tables(setup: &Setup, inputs: &BackwardInputs, stats: &Handle) -> Handle {
    let tables = &inputs.forward.modification.values.tables;
    let elements = tables.iter().map(|table| table.entries as usize).sum();
    if setup.problem.seq_q == 0 || setup.problem.seq_kv == 0 {
        return bind::zeros(setup.client, elements, bind::F32);
    }
    let grad = bind::empty(setup.client, elements, bind::F32);
    let plan = setup.plan(Walk::Backward);
    let mut start = 0;
    for (step, index) in inputs.forward.modification.code.lookups() {
        let rows = launch_sums(setup, inputs, stats, &plan, step, &tables[index]);
        let entries = tables[index].entries as usize;
        sum_rows(
            setup,
            &plan,
            &rows,
            &tables[index],
            (&grad, elements),
            start,
        );
        start += entries;
    }
    grad
}

/// `[heads, batch, rows, slots]`, and how many rows there are.
struct Sums {
    handle: Handle,
    rows: usize,
}

fn launch_sums(
    setup: &Setup,
    inputs: &BackwardInputs,
    stats: &Handle,
    plan: &Plan,
    step: usize,
    of: &Table<u32>,
) -> Sums {
    let (problem, forward) = (setup.problem, &inputs.forward);
    let (pairs, slots) = (problem.batch * problem.heads, of.slots as usize);
    // Whole cubes, so that the tile of a cube lies in one block of a map in every round.
    let affordable = (MOST_SUMS / (pairs * slots) / plan.rows_per_cube()).max(1);
    let rows = problem.seq_q.min(affordable * plan.rows_per_cube());
    let sums = bind::empty(setup.client, pairs * rows * slots, bind::F32);
    let widths = setup.widths(plan, forward, &[&inputs.grad_out]);
    let (lookup, after) = forward.modification.code.split_after(step);
    // SAFETY: as in `launch_forward`; rows and slots bound what is written.
    unsafe {
        attention_backward_table::launch_unchecked(
            setup.client,
            cubes(plan, problem.batch, problem.heads, rows),
            CubeDim::new_1d(plan.units),
            setup.address,
            plan.lanes,
            widths.head,
            widths.value,
            plan.lanes * widths.head,
            plan.lanes * widths.value,
            bind(&forward.query, widths.head),
            bind(&forward.key, widths.head),
            bind(&forward.value, widths.value),
            bind(&inputs.grad_out, widths.value),
            BufferArg::from_raw_parts(stats.clone(), pairs * problem.seq_q * STATS),
            table(forward.mask.as_ref()),
            table(forward.bias.as_ref()),
            setup.block_list(forward, 2),
            BufferArg::from_raw_parts(sums.clone(), pairs * rows * slots),
            bind::layouts(inputs, widths),
            setup.sizes(),
            TableSumsLaunch::new(rows, slots),
            bind::captured(forward),
            lookup,
            after,
            slots == 1,
            setup.blueprint(plan, forward, &[&inputs.grad_out], 2),
            forward.query.elem,
            setup.mask_elem(forward),
        );
    }
    Sums { handle: sums, rows }
}

/// Sums the rows into the table's entries, which begin at `start` of the gradient.
fn sum_rows(
    setup: &Setup,
    plan: &Plan,
    sums: &Sums,
    of: &Table<u32>,
    (grad, elements): (&Handle, usize),
    start: usize,
) {
    let (problem, slots) = (setup.problem, of.slots as usize);
    let heads = of.entries as usize / slots;
    let rows = problem.batch * problem.heads / heads * sums.rows;
    // SAFETY: a unit writes one entry of this table.
    unsafe {
        attention_sum_slots::launch_unchecked(
            setup.client,
            bind::spread((heads * slots).div_ceil(plan.units as usize)),
            CubeDim::new_1d(plan.units),
            setup.address,
            BufferArg::from_raw_parts(sums.handle.clone(), heads * rows * slots),
            BufferArg::from_raw_parts(grad.clone(), elements),
            heads,
            rows,
            slots,
            start,
            bind::F32,
        );
    }
}
