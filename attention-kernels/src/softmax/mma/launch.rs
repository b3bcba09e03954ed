//! Launches of the kernels on matrix instructions.

use std::ops::RangeInclusive;

use attention_core::AttentionProblem;
use cubecl::{prelude::*, server::Handle};

use super::{
    backward_key::matrix_backward_key, backward_query::matrix_backward_query, delta::matrix_delta,
    forward::matrix_forward, soften::Scores,
};
use crate::{
    TensorRef,
    softmax::{
        args::{KeyGradients, LayoutsLaunch},
        bind::{self, Widths, bind, cubes, layout, step, table},
        delta::STATS,
        operands::address,
        plan::Plan,
        setup::{Setup, widest},
        split::Division,
        tensors::{BackwardInputs, Gradients, Inputs, Output},
    },
    tile::Spread,
};

/// Scales in this range join the exponent's factor: hidden scores stay far below the others.
const FOLDED: RangeInclusive<f64> = 1e-6..=1e6;

/// What the scores of a problem may be.
fn scores(setup: &Setup, inputs: &Inputs) -> Scores {
    let scale = setup.scale();
    let plain = inputs.bias.is_none() && !setup.softcap() && !inputs.modification.code.modifies();
    if plain && FOLDED.contains(&scale) {
        Scores::Products
    } else {
        Scores::Scaled
    }
}

/// Whether two tensors lie alike, so that an address in one is the same in the other.
fn alike(one: &TensorRef, other: &TensorRef, widths: Widths) -> bool {
    let steps = |tensor| [0, 1, 2, 3].map(|axis| step(tensor, axis));
    one.shape == other.shape && steps(one) == steps(other) && widths.head == widths.value
}

/// The width of stores of sums over rows of `dim` that are read in vectors of `width`.
fn out_width(width: usize, dim: usize, spread: Spread) -> usize {
    // Rows of terms are padded, results are not.
    let divides = 1 << dim.trailing_zeros();
    width.min(spread.sum_width()).min(divides)
}

/// The forward walk.
pub(crate) fn launch_forward(
    setup: &Setup,
    inputs: &Inputs,
    plan: &Plan,
    output: &Output,
    division: Division,
) {
    let value_dim = setup.problem.value_dim;
    let widths = setup.widths(plan, inputs, &[]);
    let spread = plan.tile.spread;
    let [key, value] = setup.readable([&inputs.key, &inputs.value], &inputs.query);
    let row_width = widths.head.min(spread.operand_width());
    let out_width = out_width(widths.value, value_dim, spread);
    let rows = division.rows;
    // SAFETY: every row and token is clamped to the problem's sizes, which the shapes of the bound
    // tensors have been checked against.
    unsafe {
        matrix_forward::launch_unchecked(
            setup.client,
            division.cubes,
            CubeDim::new_1d(plan.units),
            address(setup, &inputs.multiplied()),
            plan.lanes,
            widths.head,
            widths.value,
            row_width,
            out_width,
            spread.operand_width(),
            spread.sum_width(),
            bind(&inputs.query, row_width),
            bind(key, widths.head),
            bind(value, widths.value),
            table(inputs.mask.as_ref()),
            table(inputs.bias.as_ref()),
            setup.block_list(inputs, 2),
            division.split.into(),
            BufferArg::from_raw_parts(output.out.clone(), rows * value_dim / out_width),
            BufferArg::from_raw_parts(output.lse.clone(), rows),
            layout(&inputs.query, row_width),
            layout(&inputs.key, widths.head),
            layout(&inputs.value, widths.value),
            setup.sizes(),
            bind::captured(inputs),
            inputs.modification.code.clone(),
            setup.blueprint(plan, inputs, &[], 2),
            scores(setup, inputs),
            alike(&inputs.key, &inputs.value, widths),
            setup.until_aside(plan, division.out_elem, division.tokens),
            setup.elem,
            inputs.query.elem,
            division.out_elem,
            setup.mask_elem(inputs),
        );
    }
}

/// `delta`, for a query walk of this plan.
pub(crate) fn launch_delta(setup: &Setup, inputs: &BackwardInputs, plan: &Plan, stats: &Handle) {
    let AttentionProblem {
        batch,
        heads,
        seq_q,
        ..
    } = setup.problem;
    let spread = plan.tile.spread;
    let tensors = [&inputs.grad_out, &inputs.out];
    let width = widest(spread.operand_width(), &tensors);
    // SAFETY: as in `launch_forward`.
    unsafe {
        matrix_delta::launch_unchecked(
            setup.client,
            cubes(plan, batch, heads, seq_q),
            CubeDim::new_1d(plan.units),
            address(setup, &inputs.multiplied()),
            width,
            plan.lanes,
            spread.operand_width(),
            spread.sum_width(),
            bind(&inputs.out, width),
            bind(&inputs.grad_out, width),
            BufferArg::from_raw_parts(stats.clone(), batch * heads * seq_q * STATS),
            layout(&inputs.out, width),
            layout(&inputs.grad_out, width),
            setup.sizes(),
            setup.blueprint(plan, &inputs.forward, &tensors, 2),
            inputs.grad_out.elem,
        );
    }
}

/// The query walk of the backward.
pub(crate) fn launch_query(
    setup: &Setup,
    inputs: &BackwardInputs,
    plan: &Plan,
    stats: &Handle,
    grad: &Handle,
) {
    let AttentionProblem {
        batch,
        heads,
        seq_q,
        head_dim,
        ..
    } = setup.problem;
    let forward = &inputs.forward;
    let spread = plan.tile.spread;
    let widths = setup.widths(plan, forward, &[&inputs.grad_out]);
    let [key, value] = setup.readable([&forward.key, &forward.value], &forward.query);
    let row = widths.map(|width| width.min(spread.operand_width()));
    let out_width = out_width(widths.head, head_dim, spread);
    let rows = batch * heads * seq_q;
    // SAFETY: as in `launch_forward`.
    unsafe {
        matrix_backward_query::launch_unchecked(
            setup.client,
            cubes(plan, batch, heads, seq_q),
            CubeDim::new_1d(plan.units),
            address(setup, &inputs.multiplied()),
            plan.lanes,
            widths.head,
            widths.value,
            row.head,
            row.value,
            out_width,
            spread.operand_width(),
            spread.sum_width(),
            bind(&forward.query, row.head),
            bind(key, widths.head),
            bind(value, widths.value),
            bind(&inputs.grad_out, row.value),
            BufferArg::from_raw_parts(stats.clone(), rows * STATS),
            table(forward.mask.as_ref()),
            table(forward.bias.as_ref()),
            setup.block_list(forward, 2),
            BufferArg::from_raw_parts(grad.clone(), rows * head_dim / out_width),
            LayoutsLaunch::new(
                layout(&forward.query, row.head),
                layout(&forward.key, widths.head),
                layout(&forward.value, widths.value),
                layout(&inputs.grad_out, row.value),
            ),
            setup.sizes(),
            bind::captured(forward),
            forward.modification.code.clone(),
            setup.blueprint(plan, forward, &[&inputs.grad_out], 2),
            scores(setup, forward),
            setup.problem.seq_kv == 1,
            alike(&forward.key, &forward.value, widths),
            setup.until_aside(plan, setup.elem, setup.problem.seq_kv),
            setup.elem,
            forward.query.elem,
            setup.mask_elem(forward),
        );
    }
}

/// One key walk of the backward.
pub(crate) fn launch_key_walk(
    setup: &Setup,
    inputs: &BackwardInputs,
    plan: &Plan,
    wanted: KeyGradients,
    stats: &Handle,
    gradients: &Gradients,
) {
    let AttentionProblem {
        batch,
        heads,
        kv_heads,
        value_heads,
        seq_q,
        seq_kv,
        head_dim,
        value_dim,
    } = setup.problem;
    let forward = &inputs.forward;
    let spread = plan.tile.spread;
    let widths = setup.widths(plan, forward, &[&inputs.grad_out]);
    let [query, grad_out] = setup.readable([&forward.query, &inputs.grad_out], &forward.key);
    let row = widths.map(|width| width.min(spread.operand_width()));
    let out = Widths {
        head: out_width(widths.head, head_dim, spread),
        value: out_width(widths.value, value_dim, spread),
    };
    let keys = batch * kv_heads * seq_kv * head_dim;
    let values = batch * value_heads * seq_kv * value_dim;
    let owned_heads = if wanted.value { value_heads } else { kv_heads };
    // SAFETY: the gradients are allocated in these lengths, and so are the rows' numbers.
    let target =
        |handle: &Handle, length| unsafe { BufferArg::from_raw_parts(handle.clone(), length) };
    // SAFETY: as in `launch_forward`.
    unsafe {
        matrix_backward_key::launch_unchecked(
            setup.client,
            cubes(plan, batch, owned_heads, seq_kv),
            CubeDim::new_1d(plan.units),
            address(setup, &inputs.multiplied()),
            plan.lanes,
            widths.head,
            widths.value,
            row.head,
            row.value,
            out.head,
            out.value,
            spread.operand_width(),
            spread.sum_width(),
            STATS,
            bind(query, widths.head),
            bind(&forward.key, row.head),
            wanted.key.then(|| bind(&forward.value, row.value)).into(),
            bind(grad_out, widths.value),
            target(stats, batch * heads * seq_q),
            table(forward.mask.as_ref()),
            table(forward.bias.as_ref()),
            setup.block_list(forward, 3),
            wanted
                .key
                .then(|| target(&gradients.key, keys / out.head))
                .into(),
            wanted
                .value
                .then(|| target(&gradients.value, values / out.value))
                .into(),
            LayoutsLaunch::new(
                layout(&forward.query, widths.head),
                layout(&forward.key, row.head),
                layout(&forward.value, row.value),
                layout(&inputs.grad_out, widths.value),
            ),
            setup.sizes(),
            wanted,
            bind::captured(forward),
            forward.modification.code.clone(),
            setup.blueprint(plan, forward, &[&inputs.grad_out], 3),
            scores(setup, forward),
            alike(&forward.query, &inputs.grad_out, widths),
            setup.until_aside(plan, setup.elem, seq_q * heads / owned_heads),
            setup.elem,
            forward.key.elem,
            setup.mask_elem(forward),
        );
    }
}
