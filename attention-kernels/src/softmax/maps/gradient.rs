//! Gradient times attention of chosen queries: how much a key's probability counts for what is
//! differentiated (Chefer et al. 2021, <https://arxiv.org/abs/2103.15679>).

use attention_core::{AttentionError, AttentionProblem, AttentionSpec};
use cubecl::{client::Client, prelude::*, server::Handle};

use super::{
    super::{
        args::{Blueprint, Layout, Sizes},
        bind::{self, bind, cubes, layout},
        checks::wrong_dtype,
        plan::Walk,
        rows::{key_head, own_rows, tile_count, tile_index, value_head},
        setup::Setup,
    },
    MapInputs,
    chosen::Chosen,
    rows::launch_rows,
    setup::check_shape,
};
use crate::{
    TensorRef,
    tile::{Stream, block_products, filled, load_rows, packed},
    turns::turn,
};

/// `P * dP` with `dP = dO V^T`, the derivative by the probabilities, for the queries at `positions`:
/// `[batch, heads, positions, seq_kv]` of f32. `grad_out` is the output's gradient, `[batch, heads,
/// seq_q, value_dim]` of the query's element type, of any strides.
///
/// # Errors
///
/// As [`rows`](super::rows()); a `grad_out` of another shape or type than the output's.
pub fn gradient_times_attention(
    client: &Client,
    inputs: &MapInputs,
    spec: &AttentionSpec,
    grad_out: &TensorRef,
    positions: &[usize],
) -> Result<Handle, AttentionError> {
    let mut setup = inputs.setup(client, spec)?;
    let problem = setup.problem;
    problem.check_rows(positions)?;
    check_shape("grad_out", grad_out, problem.output_shape())?;
    let elem = inputs.forward.query.elem;
    if grad_out.elem != elem {
        let accepted = format!("{elem}, the query's");
        return Err(wrong_dtype("grad_out", grad_out.elem, accepted));
    }
    let elements = problem.batch * problem.heads * positions.len() * problem.seq_kv;
    setup.address(elements.max(bind::extent(grad_out)))?;
    let out = bind::empty(client, elements, bind::F32);
    if elements > 0 {
        launch_rows(&setup, inputs, positions, &out);
        launch_slopes(&setup, inputs, grad_out, positions, &out);
    }
    Ok(out)
}

fn launch_slopes(
    setup: &Setup,
    inputs: &MapInputs,
    grad_out: &TensorRef,
    positions: &[usize],
    out: &Handle,
) {
    let AttentionProblem {
        batch,
        heads,
        seq_kv,
        ..
    } = setup.problem;
    let forward = &inputs.forward;
    let mut plan = setup.plan(Walk::Backward);
    let chosen = Chosen::new(positions, &mut plan);
    let widths = setup.widths(&plan, forward, &[grad_out]);
    // SAFETY: as in `launch_rows`.
    unsafe {
        attention_map_times_slopes::launch_unchecked(
            setup.client,
            cubes(&plan, batch, heads, seq_kv),
            CubeDim::new_1d(plan.units),
            setup.address,
            plan.lanes,
            widths.value,
            plan.lanes * widths.value,
            bind(&forward.value, widths.value),
            bind(grad_out, widths.value),
            chosen.upload(setup.client),
            BufferArg::from_raw_parts(out.clone(), batch * heads * chosen.count * seq_kv),
            layout(&forward.value, widths.value),
            layout(grad_out, widths.value),
            setup.sizes(),
            chosen.runs(),
            chosen.count,
            setup.blueprint(&plan, forward, &[grad_out], 3),
            forward.query.elem,
        );
    }
}

/// Each lane owns a key and multiplies its probabilities. A kernel of its own: together with the
/// first product it would bind more buffers than WebGPU has.
#[cube(launch_unchecked, address_type = "dynamic")]
fn attention_map_times_slopes<E: Float, N: Size, WV: Size, RV: Size>(
    value: &[Vector<E, WV>],
    grad_out: &[Vector<E, WV>],
    runs: &[u32],
    out: &mut [f32],
    value_layout: Layout,
    grad_layout: Layout,
    sizes: Sizes,
    run_count: usize,
    chosen: usize,
    #[comptime] blueprint: Blueprint,
    #[define(E)] _dtype: ElemType,
) {
    let value_layout = packed(&value_layout, blueprint.packed);
    let grad_layout = packed(&grad_layout, blueprint.packed);
    let tile = tile_index(blueprint);
    if tile < tile_count::<N>(sizes.seq_kv, blueprint) {
        let own = own_rows::<N>(tile, sizes.seq_kv, blueprint);
        let config = comptime!(blueprint.tile);
        let groups = comptime!(config.groups);
        let lanes = N::value();
        let values = load_rows::<E, N, RV, WV>(
            value,
            &value_layout,
            own.batch,
            value_head(key_head(own.head, blueprint), blueprint),
            &own.rows,
            sizes.seq_kv,
            blueprint.value_dim,
            config,
        );
        let grads = Stream::of(&grad_layout, own.batch, own.head, sizes.seq_q - 1);
        let mut slopes = filled::<N>(0.0f32, comptime!(config.block * groups), config.unroll);

        let mut row = (own.batch * sizes.heads + own.head) * chosen;
        for run in 0..run_count {
            let run = 2 * turn(run, run_count);
            let token = runs[run] as usize;
            let length = runs[run + 1] as usize;
            block_products::<E, N, RV, WV>(
                &values,
                grad_out,
                &grads,
                token,
                &mut slopes,
                f32::new(1.0),
                blueprint.value_dim,
                config,
            );
            #[unroll(config.unroll)]
            for t in 0..comptime!(config.block) {
                if t < length {
                    #[unroll]
                    for g in 0..groups {
                        #[unroll]
                        for lane in 0..lanes {
                            let key = own.rows[comptime!(g * lanes + lane)];
                            if key < sizes.seq_kv {
                                let at = (row + t) * sizes.seq_kv + key;
                                out[at] *= slopes[t * groups + g].extract(lane);
                            }
                        }
                    }
                }
            }
            row += length;
        }
    }
}
