//! The backward call: check, plan, launch.

use std::sync::OnceLock;

use attention_core::{AttentionError, AttentionProblem, AttentionSpec};
use cubecl::{client::Client, prelude::*, server::Handle};

use super::{
    args::KeyGradients,
    backward_key::attention_backward_key,
    backward_query::attention_backward_query,
    bind::{self, bind, cubes, layout, table},
    buffers::Buffers,
    cmma,
    delta::{STATS, attention_delta},
    engine::Chosen,
    launch_bias::launch_bias,
    launch_head::{head_plan, launch_head},
    launch_tables::launch_tables,
    mma::{self, MatrixWalk},
    operands::{address, backward_operands},
    plan::{Plan, Walk},
    setup::Setup,
    tensors::{BackwardInputs, Gradients, Wanted},
};
use crate::tile::chunk_chain;

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
    let converted = OnceLock::new();
    let head_plan = head_plan(&setup, inputs, &query_walk);
    if let Some(plan) = &head_plan {
        launch_delta(&setup, inputs, &query_walk, &stats);
        launch_head(&setup, inputs, plan, &stats, &gradients);
    }
    if rows > 0 && head_plan.is_none() {
        let launch = |chosen: &Chosen| {
            // The walk corrects these numbers, so that each walk needs them anew.
            launch_delta(&setup, inputs, chosen, &stats);
            launch_query_walk(&setup, inputs, chosen, &converted, &stats, &gradients.query);
        };
        setup.launch_walk(MatrixWalk::Query, &inputs.forward, &query_walk, &launch);
    }
    if keys > 0 && head_plan.is_none() {
        let launch =
            |chosen: &Chosen| launch_keys(&setup, inputs, chosen, &converted, &stats, &gradients);
        setup.launch_walk(MatrixWalk::Key, &inputs.forward, &key_walk, &launch);
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

fn launch_delta(setup: &Setup, inputs: &BackwardInputs, chosen: &Chosen, stats: &Handle) {
    let summed = !matches!(chosen, Chosen::Matrix(_));
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
            chunk_chain(problem.value_dim / widths.value),
            summed,
            inputs.out.elem,
        );
    }
}

fn launch_query_walk(
    setup: &Setup,
    inputs: &BackwardInputs,
    chosen: &Chosen,
    converted: &OnceLock<BackwardInputs>,
    stats: &Handle,
    grad: &Handle,
) {
    match chosen {
        Chosen::Register(plan) => {
            let operands = backward_operands(setup, inputs, plan, converted);
            launch_query(setup, operands, plan, stats, grad);
        }
        Chosen::Fragments(plan) => cmma::launch_query(setup, inputs, plan, stats, grad),
        Chosen::Matrix(plan) => {
            let operands = backward_operands(setup, inputs, plan, converted);
            mma::launch_delta(setup, operands, plan, stats);
            mma::launch_query(setup, operands, plan, stats, grad);
        }
    }
}

fn launch_query(
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
    let widths = setup.widths(plan, forward, &[&inputs.grad_out]);
    let [key, value] = setup.readable([&forward.key, &forward.value], &forward.query);
    let rows = batch * heads * seq_q;
    let plan = &plan.claiming(batch);
    let cubes = cubes(plan, batch, heads, seq_q);
    let claims = bind::claims(setup.client, plan, &cubes);
    // SAFETY: as in `launch_forward`.
    unsafe {
        attention_backward_query::launch_unchecked(
            setup.client,
            cubes,
            CubeDim::new_1d(plan.units),
            address(setup, &inputs.multiplied()),
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
            claims,
            BufferArg::from_raw_parts(grad.clone(), rows * head_dim / widths.head),
            bind::layouts(inputs, widths),
            setup.sizes(),
            bind::captured(forward),
            forward.modification.code.clone(),
            setup.blueprint(plan, forward, &[&inputs.grad_out], 2),
            setup.until_aside(plan, setup.elem, setup.problem.seq_kv),
            setup.elem,
            forward.query.elem,
            setup.mask_elem(forward),
        );
    }
}

/// One walk where a plan gathers both gradients and they can be bound, two elsewhere.
fn launch_keys(
    setup: &Setup,
    inputs: &BackwardInputs,
    chosen: &Chosen,
    converted: &OnceLock<BackwardInputs>,
    stats: &Handle,
    gradients: &Gradients,
) {
    let both = match chosen {
        Chosen::Register(plan) | Chosen::Matrix(plan) => plan.both,
        Chosen::Fragments(plan) => plan.plan.both,
    };
    let available = setup.client.properties().hardware.max_bindings;
    let one = |key, value| KeyGradients { key, value };
    let walks = if both && Buffers::of(&inputs.forward).leave_one(available) {
        vec![one(true, true)]
    } else {
        vec![one(true, false), one(false, true)]
    };
    for wanted in walks {
        match chosen {
            Chosen::Register(plan) => {
                let operands = backward_operands(setup, inputs, plan, converted);
                launch_key_walk(setup, operands, plan, wanted, stats, gradients);
            }
            Chosen::Fragments(plan) => {
                cmma::launch_key_walk(setup, inputs, plan, wanted, stats, gradients);
            }
            Chosen::Matrix(plan) => {
                let operands = backward_operands(setup, inputs, plan, converted);
                mma::launch_key_walk(setup, operands, plan, wanted, stats, gradients);
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
    let plan = &plan.claiming(batch);
    let cubes = cubes(plan, batch, owned_heads, seq_kv);
    let claims = bind::claims(setup.client, plan, &cubes);
    // SAFETY: as in `launch_forward`.
    unsafe {
        attention_backward_key::launch_unchecked(
            setup.client,
            cubes,
            CubeDim::new_1d(plan.units),
            address(setup, &inputs.multiplied()),
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
            claims,
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
            setup.until_aside(plan, setup.elem, seq_q * heads / owned_heads),
            setup.elem,
            forward.key.elem,
            setup.mask_elem(forward),
        );
    }
}
