//! The forward call: check, plan, launch.

use attention_core::{AttentionError, AttentionProblem, AttentionSpec};
use cubecl::{client::Client, prelude::*, server::Handle};

use super::{
    bind::{self, Widths, bind, cubes, layout, table},
    cmma,
    engine::Chosen,
    forward::attention_forward,
    mma,
    plan::{Plan, Walk},
    setup::Setup,
    tensors::{Inputs, Output},
};

/// Computes attention and its log-sum-exp.
///
/// # Errors
///
/// Shapes that do not fit each other, element types that differ or that the device does not have,
/// options outside their domain and an engine that the device does not have are refused before anything
/// is launched.
pub fn forward(
    client: &Client,
    inputs: &Inputs,
    spec: &AttentionSpec,
) -> Result<Output, AttentionError> {
    let setup = Setup::new(client, inputs, spec)?;
    let chosen = setup.choose(mma::MatrixWalk::Forward)?;
    let problem = setup.problem;
    let rows = problem.batch * problem.heads * problem.seq_q;
    let out = bind::empty(client, rows * problem.value_dim, inputs.query.elem);
    let lse = bind::empty(client, rows, bind::F32);
    if rows > 0 {
        match chosen {
            Chosen::Register => {
                let plan = setup.plan(Walk::Forward);
                let widths = setup.widths(&plan, inputs, &[]);
                launch_forward(&setup, inputs, &plan, widths, &out, &lse);
            }
            Chosen::Fragments(plan) => cmma::launch_forward(&setup, inputs, &plan, &out, &lse),
            Chosen::Matrix(plan) => {
                let widths = setup.widths(&plan, inputs, &[]);
                mma::launch_forward(&setup, inputs, &plan, widths, &out, &lse);
            }
        }
    }
    Ok(Output { out, lse })
}

fn launch_forward(
    setup: &Setup,
    inputs: &Inputs,
    plan: &Plan,
    widths: Widths,
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
    let [key, value] = setup.readable([&inputs.key, &inputs.value], &inputs.query);
    let rows = batch * heads * seq_q;
    // SAFETY: every lane's row and token is clamped to the problem's sizes, which the shapes of
    // the bound tensors have been checked against.
    unsafe {
        attention_forward::launch_unchecked(
            setup.client,
            cubes(plan, batch, heads, seq_q),
            CubeDim::new_1d(plan.units),
            setup.address,
            plan.lanes,
            widths.head,
            widths.value,
            plan.lanes * widths.head,
            plan.lanes * widths.value,
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
            inputs.query.elem,
            setup.mask_elem(inputs),
        );
    }
}
