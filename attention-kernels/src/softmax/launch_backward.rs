//! The backward call: check, plan, launch.

use attention_core::{AttentionError, AttentionProblem, AttentionSpec};
use cubecl::{client::Client, prelude::*, server::Handle};

use super::{
    args::{BiasGradientLaunch, Blueprint, KeyGradients},
    backward_bias::{attention_backward_bias, attention_sum_slots},
    backward_key::attention_backward_key,
    backward_query::attention_backward_query,
    bind::{self, bind, cubes, layout, table},
    cmma,
    delta::{STATS, attention_delta},
    engine::Chosen,
    launch_tables::launch_tables,
    mma::{self, MatrixWalk},
    plan::{Plan, Walk},
    setup::Setup,
    tensors::{BackwardInputs, Gradients, Wanted},
};
use crate::TensorRef;

/// Computes the gradients of [`forward`](super::forward): those of query, key and value, and what else is
/// `wanted`.
///
/// # Errors
///
/// As [`forward`](super::forward); the saved tensors and the gradients have to have the output's shape.
pub fn backward(
    client: &Client,
    inputs: &BackwardInputs,
    spec: &AttentionSpec,
    wanted: Wanted,
) -> Result<Gradients, AttentionError> {
    let setup = Setup::new(client, &inputs.forward, spec)?;
    setup.check_saved(inputs)?;
    let query_walk = setup.choose(MatrixWalk::Query)?;
    let key_walk = setup.choose(MatrixWalk::Key)?;
    let problem = setup.problem;
    let elem = inputs.forward.query.elem;
    let rows = problem.batch * problem.heads * problem.seq_q;
    let keys = problem.batch * problem.kv_heads * problem.seq_kv;
    let values = problem.batch * problem.value_heads * problem.seq_kv;
    let gradients = Gradients {
        query: bind::empty(client, rows * problem.head_dim, elem),
        key: bind::empty(client, keys * problem.head_dim, elem),
        value: bind::empty(client, values * problem.value_dim, elem),
        bias: None,
        tables: None,
    };
    let stats = bind::empty(client, rows * STATS, bind::F32);
    if rows > 0 {
        launch_delta(&setup, inputs, &stats);
        let grad = &gradients.query;
        match query_walk {
            Chosen::Register => launch_query(&setup, inputs, &stats, grad),
            Chosen::Fragments(plan) => cmma::launch_query(&setup, inputs, &plan, &stats, grad),
            Chosen::Matrix(plan) => mma::launch_query(&setup, inputs, &plan, &stats, grad),
        }
    }
    if keys > 0 {
        launch_keys(&setup, inputs, &key_walk, &stats, &gradients);
    }
    let bias = match (&inputs.forward.bias, wanted.bias) {
        (Some(bias), true) => Some(launch_bias(&setup, inputs, bias, &stats)),
        _ => None,
    };
    let tables = inputs.forward.tables.is_some() && wanted.tables;
    let tables = tables.then(|| launch_tables(&setup, inputs, &stats));
    Ok(Gradients {
        bias,
        tables,
        ..gradients
    })
}

fn launch_delta(setup: &Setup, inputs: &BackwardInputs, stats: &Handle) {
    let problem = setup.problem;
    let rows = problem.batch * problem.heads * problem.seq_q;
    let plan = setup.plan(Walk::Backward);
    let widths = setup.widths(&plan, &inputs.forward, &[&inputs.grad_out]);
    let units = plan.units;
    // SAFETY: each unit reads one row of tensors whose shapes have been checked.
    unsafe {
        attention_delta::launch_unchecked(
            setup.client,
            bind::spread(rows.div_ceil(units as usize)),
            CubeDim::new_1d(units),
            setup.address,
            bind(&inputs.out, 1),
            bind(&inputs.grad_out, 1),
            bind(&inputs.lse, 1),
            inputs.grad_lse.as_ref().map(|grad| bind(grad, 1)).into(),
            BufferArg::from_raw_parts(stats.clone(), rows * STATS),
            layout(&inputs.out, 1),
            layout(&inputs.grad_out, 1),
            setup.sizes(),
            problem.value_dim,
            widths.value,
            inputs.out.elem,
        );
    }
}

fn launch_query(setup: &Setup, inputs: &BackwardInputs, stats: &Handle, grad: &Handle) {
    let AttentionProblem {
        batch,
        heads,
        seq_q,
        head_dim,
        ..
    } = setup.problem;
    let forward = &inputs.forward;
    let plan = setup.plan(Walk::Backward);
    let widths = setup.widths(&plan, forward, &[&inputs.grad_out]);
    let [key, value] = setup.readable([&forward.key, &forward.value], &forward.query);
    let rows = batch * heads * seq_q;
    // SAFETY: as in `launch_forward`.
    unsafe {
        attention_backward_query::launch_unchecked(
            setup.client,
            cubes(&plan, batch, heads, seq_q),
            CubeDim::new_1d(plan.units),
            setup.address,
            plan.lanes,
            widths.head,
            widths.value,
            plan.lanes * widths.head,
            plan.lanes * widths.value,
            bind(&forward.query, widths.head),
            bind(key, widths.head),
            bind(value, widths.value),
            bind(&inputs.grad_out, widths.value),
            BufferArg::from_raw_parts(stats.clone(), rows * STATS),
            table(forward.mask.as_ref()),
            table(forward.bias.as_ref()),
            setup.block_list(forward, 2),
            BufferArg::from_raw_parts(grad.clone(), rows * head_dim / widths.head),
            bind::layouts(inputs, widths),
            setup.sizes(),
            bind::captured(forward),
            forward.modification.code.clone(),
            setup.blueprint(&plan, forward, &[&inputs.grad_out], 2),
            forward.query.elem,
            setup.mask_elem(forward),
        );
    }
}

/// Matrix instructions spread the rows of a tile over lanes, which hold both gradients of rows of up to
/// this many dimensions together.
const DIMS_OF_BOTH: usize = 128;

/// One walk where a core or the lanes of a row hold both gradients, two where their registers do not.
fn launch_keys(
    setup: &Setup,
    inputs: &BackwardInputs,
    chosen: &Chosen,
    stats: &Handle,
    gradients: &Gradients,
) {
    let problem = &setup.problem;
    let holds_both = match chosen {
        Chosen::Register => setup.plan(Walk::Backward).tile_per_unit,
        Chosen::Fragments(plan) => plan.both,
        Chosen::Matrix(_) => problem.head_dim + problem.value_dim <= DIMS_OF_BOTH,
    };
    let one = |key, value| KeyGradients { key, value };
    let walks = if holds_both {
        vec![one(true, true)]
    } else {
        vec![one(true, false), one(false, true)]
    };
    for wanted in walks {
        match chosen {
            Chosen::Register => {
                let plan = setup.plan(Walk::Backward);
                launch_key_walk(setup, inputs, &plan, wanted, stats, gradients);
            }
            Chosen::Fragments(plan) => {
                cmma::launch_key_walk(setup, inputs, plan, wanted, stats, gradients);
            }
            Chosen::Matrix(plan) => {
                mma::launch_key_walk(setup, inputs, plan, wanted, stats, gradients);
            }
        }
    }
}

fn launch_key_walk(
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
    let widths = setup.widths(plan, forward, &[&inputs.grad_out]);
    let [query, grad_out] = setup.readable([&forward.query, &inputs.grad_out], &forward.key);
    let keys = batch * kv_heads * seq_kv;
    let values = batch * value_heads * seq_kv;
    let owned_heads = if wanted.value { value_heads } else { kv_heads };
    // SAFETY: as in `launch_forward`.
    unsafe {
        attention_backward_key::launch_unchecked(
            setup.client,
            cubes(plan, batch, owned_heads, seq_kv),
            CubeDim::new_1d(plan.units),
            setup.address,
            plan.lanes,
            widths.head,
            widths.value,
            plan.lanes * widths.head,
            plan.lanes * widths.value,
            bind(query, widths.head),
            bind(&forward.key, widths.head),
            wanted
                .key
                .then(|| bind(&forward.value, widths.value))
                .into(),
            bind(grad_out, widths.value),
            BufferArg::from_raw_parts(stats.clone(), batch * heads * seq_q * STATS),
            table(forward.mask.as_ref()),
            table(forward.bias.as_ref()),
            setup.block_list(forward, 3),
            wanted
                .key
                .then(|| {
                    BufferArg::from_raw_parts(gradients.key.clone(), keys * head_dim / widths.head)
                })
                .into(),
            wanted
                .value
                .then(|| {
                    BufferArg::from_raw_parts(
                        gradients.value.clone(),
                        values * value_dim / widths.value,
                    )
                })
                .into(),
            bind::layouts(inputs, widths),
            setup.sizes(),
            wanted,
            bind::captured(forward),
            forward.modification.code.clone(),
            setup.blueprint(plan, forward, &[&inputs.grad_out], 3),
            forward.key.elem,
            setup.mask_elem(forward),
        );
    }
}

fn launch_bias(setup: &Setup, inputs: &BackwardInputs, bias: &TensorRef, stats: &Handle) -> Handle {
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
