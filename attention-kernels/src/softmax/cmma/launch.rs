//! Launches of the kernels on cooperative matrices.

use attention_core::AttentionProblem;
use cubecl::{prelude::*, server::Handle};

use super::{
    FragmentPlan, backward_key::fragment_backward_key, backward_query::fragment_backward_query,
    forward::fragment_forward,
};
use crate::softmax::{
    args::KeyGradients,
    bind::{self, bind, cubes, layout, layouts, table},
    delta::STATS,
    setup::Setup,
    tensors::{BackwardInputs, Gradients, Inputs},
};

/// The forward walk.
pub(crate) fn launch_forward(
    setup: &Setup,
    inputs: &Inputs,
    plan: &FragmentPlan,
    out: &Handle,
    lse: &Handle,
) {
    let AttentionProblem {
        batch,
        heads,
        seq_q,
        value_dim,
        ..
    } = setup.problem;
    let FragmentPlan { plan, tile, .. } = plan;
    let widths = setup.widths(plan, inputs, &[]);
    let [key, value] = setup.readable([&inputs.key, &inputs.value], &inputs.query);
    let rows = batch * heads * seq_q;
    // SAFETY: every row and token is clamped to the problem's sizes, which the shapes of the bound
    // tensors have been checked against.
    unsafe {
        fragment_forward::launch_unchecked(
            setup.client,
            cubes(plan, batch, heads, seq_q),
            CubeDim::new_1d(plan.units),
            setup.address,
            plan.lanes,
            widths.head,
            widths.value,
            bind(&inputs.query, widths.head),
            bind(key, widths.head),
            bind(value, widths.value),
            table(inputs.mask.as_ref()),
            table(inputs.bias.as_ref()),
            setup.block_list(inputs, 2),
            BufferArg::from_raw_parts(out.clone(), rows * value_dim / widths.value),
            BufferArg::from_raw_parts(lse.clone(), rows),
            layout(&inputs.query, widths.head),
            layout(&inputs.key, widths.head),
            layout(&inputs.value, widths.value),
            setup.sizes(),
            bind::captured(inputs),
            inputs.modification.code.clone(),
            setup.blueprint(plan, inputs, &[], 2),
            *tile,
            inputs.query.elem,
            setup.mask_elem(inputs),
        );
    }
}

/// The query walk of the backward.
pub(crate) fn launch_query(
    setup: &Setup,
    inputs: &BackwardInputs,
    plan: &FragmentPlan,
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
    let FragmentPlan { plan, tile, .. } = plan;
    let widths = setup.widths(plan, forward, &[&inputs.grad_out]);
    let [key, value] = setup.readable([&forward.key, &forward.value], &forward.query);
    let rows = batch * heads * seq_q;
    // SAFETY: as in `launch_forward`.
    unsafe {
        fragment_backward_query::launch_unchecked(
            setup.client,
            cubes(plan, batch, heads, seq_q),
            CubeDim::new_1d(plan.units),
            setup.address,
            plan.lanes,
            widths.head,
            widths.value,
            bind(&forward.query, widths.head),
            bind(key, widths.head),
            bind(value, widths.value),
            bind(&inputs.grad_out, widths.value),
            BufferArg::from_raw_parts(stats.clone(), rows * STATS),
            table(forward.mask.as_ref()),
            table(forward.bias.as_ref()),
            setup.block_list(forward, 2),
            BufferArg::from_raw_parts(grad.clone(), rows * head_dim / widths.head),
            layouts(inputs, widths),
            setup.sizes(),
            bind::captured(forward),
            forward.modification.code.clone(),
            setup.blueprint(plan, forward, &[&inputs.grad_out], 2),
            *tile,
            forward.query.elem,
            setup.mask_elem(forward),
        );
    }
}

/// One key walk of the backward.
pub(crate) fn launch_key_walk(
    setup: &Setup,
    inputs: &BackwardInputs,
    plan: &FragmentPlan,
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
    let FragmentPlan { plan, tile, .. } = plan;
    let widths = setup.widths(plan, forward, &[&inputs.grad_out]);
    let [query, grad_out] = setup.readable([&forward.query, &inputs.grad_out], &forward.key);
    let keys = batch * kv_heads * seq_kv * head_dim;
    let values = batch * value_heads * seq_kv * value_dim;
    let owned_heads = if wanted.value { value_heads } else { kv_heads };
    // SAFETY: the gradients are allocated in these lengths, and so are the rows' numbers.
    let target =
        |handle: &Handle, length| unsafe { BufferArg::from_raw_parts(handle.clone(), length) };
    // SAFETY: as in `launch_forward`.
    unsafe {
        fragment_backward_key::launch_unchecked(
            setup.client,
            cubes(plan, batch, owned_heads, seq_kv),
            CubeDim::new_1d(plan.units),
            setup.address,
            plan.lanes,
            widths.head,
            widths.value,
            STATS,
            bind(query, widths.head),
            bind(&forward.key, widths.head),
            wanted
                .key
                .then(|| bind(&forward.value, widths.value))
                .into(),
            bind(grad_out, widths.value),
            target(stats, batch * heads * seq_q),
            table(forward.mask.as_ref()),
            table(forward.bias.as_ref()),
            setup.block_list(forward, 3),
            wanted
                .key
                .then(|| target(&gradients.key, keys / widths.head))
                .into(),
            wanted
                .value
                .then(|| target(&gradients.value, values / widths.value))
                .into(),
            layouts(inputs, widths),
            setup.sizes(),
            wanted,
            bind::captured(forward),
            forward.modification.code.clone(),
            setup.blueprint(plan, forward, &[&inputs.grad_out], 3),
            *tile,
            forward.key.elem,
            setup.mask_elem(forward),
        );
    }
}
