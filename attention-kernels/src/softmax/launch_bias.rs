//! The launch of the bias' gradient.

use cubecl::{prelude::*, server::Handle};

use super::{
    args::{BiasGradientLaunch, Blueprint},
    backward_bias::{attention_backward_bias, attention_sum_slots},
    bind::{self, bind, cubes, table},
    delta::STATS,
    plan::Walk,
    setup::Setup,
    tensors::BackwardInputs,
};
use crate::TensorRef;

/// In the bias' own shape: summed over what it broadcasts over.
pub(crate) fn launch_bias(
    setup: &Setup,
    inputs: &BackwardInputs,
    bias: &TensorRef,
    stats: &Handle,
) -> Handle {
    let client = setup.client;
    let problem = setup.problem;
    let [bias_batch, bias_heads, bias_rows, keys] = bias.shape;
    let elements = bias.shape.iter().product();
    if problem.seq_q == 0 || problem.seq_kv == 0 {
        return bind::zeros(client, elements, bias.elem);
    }
    let grad = bind::empty(client, elements, bias.elem);
    let plan = setup.plan(Walk::Backward);
    let summed = bias_rows != problem.seq_q;
    let slots = if summed {
        problem.seq_q.min(plan.rows_per_cube())
    } else {
        problem.seq_q
    };
    let pairs = bias_batch * bias_heads;
    let (target, elem) = if summed {
        (
            bind::empty(client, pairs * slots * keys, bind::F32),
            bind::F32,
        )
    } else {
        (grad.clone(), bias.elem)
    };
    let forward = &inputs.forward;
    let widths = setup.widths(&plan, forward, &[&inputs.grad_out]);
    let rows = problem.batch * problem.heads * problem.seq_q;
    // SAFETY: as in `launch_forward`; slots and keys bound what is written.
    unsafe {
        attention_backward_bias::launch_unchecked(
            client,
            cubes(&plan, bias_batch, bias_heads, slots),
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
            BufferArg::from_raw_parts(stats.clone(), rows * STATS),
            table(forward.mask.as_ref()),
            bind::score_table(bias),
            BufferArg::from_raw_parts(target.clone(), pairs * slots * keys),
            bind::layouts(inputs, widths),
            setup.sizes(),
            BiasGradientLaunch::new(bias_batch, bias_heads, slots, keys),
            bind::captured(forward),
            forward.modification.code.clone(),
            Blueprint {
                blocks: None,
                ..setup.blueprint(&plan, forward, &[&inputs.grad_out], 2)
            },
            bias.elem,
            setup.mask_elem(forward),
            elem,
        );
        if summed {
            attention_sum_slots::launch_unchecked(
                client,
                bind::spread((pairs * keys).div_ceil(plan.units as usize)),
                CubeDim::new_1d(plan.units),
                setup.address,
                BufferArg::from_raw_parts(target, pairs * slots * keys),
                BufferArg::from_raw_parts(grad.clone(), pairs * keys),
                pairs,
                slots,
                keys,
                0,
                bias.elem,
            );
        }
    }
    grad
}
