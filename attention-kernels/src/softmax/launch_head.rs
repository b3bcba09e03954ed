//! The launch of the walk that gives all gradients of a head.

use attention_core::AttentionProblem;
use cubecl::{prelude::*, server::Handle};

use super::{
    backward_head::{TILES, attention_backward_head, vectors_at_once},
    bind::{self, bind, table},
    delta::STATS,
    engine::Chosen,
    operands::address,
    plan::Plan,
    setup::{Setup, allow_width},
    tensors::{BackwardInputs, Gradients},
};

/// Bytes that a core keeps, at most: about what its second-level cache holds.
const MOST_KEPT: usize = 1 << 21;

/// The plan of [`attention_backward_head`], where it suits: units are cores, whose heads are enough to keep them
/// busy, and sums are of f32 and short. Five products in place of seven decide how many heads are
/// enough, and why nothing is measured for [`Engine::Tuned`](super::Engine::Tuned) here: its candidates are two walks.
pub(super) fn head_plan(setup: &Setup, inputs: &BackwardInputs, chosen: &Chosen) -> Option<Plan> {
    let Chosen::Register(plan) = chosen else {
        return None;
    };
    let problem = &setup.problem;
    let forward = &inputs.forward;
    let heads = problem.batch * problem.value_heads;
    let cores = plan.units as usize;
    let rows = problem.seq_q * problem.heads / problem.value_heads.max(1);
    // Fewer sums at once would wait for each other.
    let whole = |dim: usize| {
        dim.is_multiple_of(plan.lanes) && vectors_at_once(dim / plan.lanes, plan.lanes) > 1
    };
    let suits = plan.tile_per_unit
        && !setup.mapped
        && setup.elem == bind::F32
        && problem.seq_q > 0
        && problem.seq_kv > 0
        && [problem.head_dim, problem.value_dim].map(whole) == [true; 2]
        && allow_width(plan.lanes, &[&forward.query, &inputs.grad_out])
        && !forward.modification.code.reweighs()
        && setup.until_aside(plan, setup.elem, rows).is_none()
        && 5 * heads.div_ceil(cores) * cores < 7 * heads
        && kept_by_core(setup, plan) * plan.lanes * size_of::<f32>() <= MOST_KEPT;
    suits.then_some(*plan)
}

/// Vectors that a tile keeps of its weights, and as many of the gradients of its scores.
fn slots(setup: &Setup, plan: &Plan) -> usize {
    setup.problem.seq_kv.next_multiple_of(plan.tile.block) * plan.tile.groups
}

fn kept_by_core(setup: &Setup, plan: &Plan) -> usize {
    2 * TILES * slots(setup, plan)
}

pub(super) fn launch_head(
    setup: &Setup,
    inputs: &BackwardInputs,
    plan: &Plan,
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
    let plan = &plan.claiming(batch);
    let cubes = CubeCount::new_3d(1, value_heads as u32, batch as u32);
    let claims = bind::claims(setup.client, plan, &cubes);
    let slots = slots(setup, plan);
    let kept = plan.units as usize * kept_by_core(setup, plan);
    let rows = batch * heads * seq_q;
    let lanes = plan.lanes;
    // SAFETY: as in `launch_forward`.
    unsafe {
        attention_backward_head::launch_unchecked(
            setup.client,
            cubes,
            CubeDim::new_1d(plan.units),
            address(setup, &inputs.multiplied()),
            lanes,
            1,
            1,
            lanes,
            lanes,
            bind(&forward.query, 1),
            bind(&forward.key, 1),
            bind(&forward.value, 1),
            bind(&inputs.grad_out, 1),
            BufferArg::from_raw_parts(stats.clone(), rows * STATS),
            table(forward.mask.as_ref()),
            table(forward.bias.as_ref()),
            claims,
            BufferArg::from_raw_parts(bind::empty(setup.client, kept * lanes, bind::F32), kept),
            BufferArg::from_raw_parts(gradients.query.clone(), rows * head_dim),
            BufferArg::from_raw_parts(
                gradients.key.clone(),
                batch * kv_heads * seq_kv * head_dim / lanes,
            ),
            BufferArg::from_raw_parts(
                gradients.value.clone(),
                batch * value_heads * seq_kv * value_dim / lanes,
            ),
            bind::layouts(inputs, setup.widths(plan, forward, &[&inputs.grad_out])),
            setup.sizes(),
            slots,
            bind::captured(forward),
            forward.modification.code.clone(),
            setup.blueprint(plan, forward, &[&inputs.grad_out], 2),
            setup.until_aside(plan, setup.elem, seq_kv),
            setup.elem,
            forward.query.elem,
            setup.mask_elem(forward),
        );
    }
}
