//! The forward call: check, plan, launch.

use attention_core::{AttentionError, AttentionSpec};
use cubecl::{client::Client, prelude::*};

use super::{
    bind::{self, F32, bind, layout, table},
    cmma,
    combine::attention_combine,
    decode::heads_as_rows,
    engine::Chosen,
    forward::attention_forward,
    mma,
    operands::{address, forward_operands},
    plan::Plan,
    setup::Setup,
    split::Division,
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
    match heads_as_rows(inputs, &setup.problem, spec) {
        Some((inputs, problem, spec)) => compute(&setup.seen_as(problem, &spec), &inputs),
        None => compute(&setup, inputs),
    }
}

fn compute(setup: &Setup, inputs: &Inputs) -> Result<Output, AttentionError> {
    let client = setup.client;
    let chosen = setup.choose(mma::MatrixWalk::Forward)?;
    let problem = setup.problem;
    let rows = problem.batch * problem.heads * problem.seq_q;
    let out = bind::empty(client, rows * problem.value_dim, inputs.query.elem);
    let lse = bind::empty(client, rows, F32);
    let output = Output { out, lse };
    if rows > 0 {
        let launch = |chosen: &Chosen| launch_chosen(setup, inputs, &output, chosen);
        setup.launch_walk(mma::MatrixWalk::Forward, inputs, &chosen, &launch);
    }
    Ok(output)
}

fn launch_chosen(setup: &Setup, inputs: &Inputs, output: &Output, chosen: &Chosen) {
    let (out, lse) = (&output.out, &output.lse);
    match chosen {
        Chosen::Register(plan) => launch_in_parts(setup, inputs, plan, output, launch_forward),
        Chosen::Fragments(plan) => cmma::launch_forward(setup, inputs, plan, out, lse),
        Chosen::Matrix(plan) => {
            launch_in_parts(setup, inputs, plan, output, mma::launch_forward);
        }
    }
}

/// Launches a walk over all keys, or over each of their parts.
type Launch = fn(&Setup, &Inputs, &Plan, &Output, Division);

/// One walk over all keys, or walks over parts of them and their combination, whichever keeps the
/// device busy.
fn launch_in_parts(setup: &Setup, inputs: &Inputs, plan: &Plan, output: &Output, launch: Launch) {
    let inputs = &forward_operands(setup, inputs, plan);
    let plan = &plan.claiming(setup.problem.batch);
    let Some(parts) = setup.parts(plan, inputs) else {
        let whole = Division::new(setup, plan, None);
        return launch(setup, inputs, plan, output, whole);
    };
    let [rows, dim] = setup.output_rows();
    let found = Output {
        out: bind::empty(setup.client, parts.count * rows * dim, F32),
        lse: bind::empty(setup.client, parts.count * rows, F32),
    };
    let division = Division::new(setup, plan, Some(parts));
    launch(setup, inputs, plan, &found, division);
    // SAFETY: every unit's element is compared with the output's length.
    unsafe {
        attention_combine::launch_unchecked(
            setup.client,
            bind::spread((rows * dim).div_ceil(plan.units as usize)),
            CubeDim::new_1d(plan.units),
            setup.address,
            1,
            BufferArg::from_raw_parts(found.out, parts.count * rows * dim),
            BufferArg::from_raw_parts(found.lse, parts.count * rows),
            BufferArg::from_raw_parts(output.out.clone(), rows * dim),
            BufferArg::from_raw_parts(output.lse.clone(), rows),
            parts.count,
            rows,
            dim,
            f32::NEG_INFINITY,
            plan.exponential,
            setup.elem,
        );
    }
}

fn launch_forward(
    setup: &Setup,
    inputs: &Inputs,
    plan: &Plan,
    output: &Output,
    division: Division,
) {
    let value_dim = setup.problem.value_dim;
    let widths = setup.widths(plan, inputs, &[]);
    let [key, value] = setup.readable([&inputs.key, &inputs.value], &inputs.query);
    let rows = division.rows;
    let claims = bind::claims(setup.client, plan, &division.cubes);
    // SAFETY: every lane's row and token is clamped to the problem's sizes, which the shapes of
    // the bound tensors have been checked against.
    unsafe {
        attention_forward::launch_unchecked(
            setup.client,
            division.cubes,
            CubeDim::new_1d(plan.units),
            address(setup, &inputs.multiplied()),
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
            division.split.into(),
            claims,
            BufferArg::from_raw_parts(output.out.clone(), rows * value_dim / widths.value),
            BufferArg::from_raw_parts(output.lse.clone(), rows),
            layout(&inputs.query, widths.head),
            layout(&inputs.key, widths.head),
            layout(&inputs.value, widths.value),
            setup.sizes(),
            bind::captured(inputs),
            inputs.modification.code.clone(),
            setup.blueprint(plan, inputs, &[], 2),
            setup.until_aside(plan, division.out_elem, division.tokens),
            setup.elem,
            inputs.query.elem,
            division.out_elem,
            setup.mask_elem(inputs),
        );
    }
}
