//! The emulated device: attention on matrix instructions is right on it, and faults are found.

use std::sync::Arc;

use attention_matrix::{
    execute::{self, Checked, Compared, Device, Fault, Objects, Schedule, check},
    gpu,
};
use cubecl::prelude::*;

const UNITS: usize = 64;

fn device_of(name: &str, objects: Objects) -> Device {
    let mut targets = gpu::all().into_iter();
    let target = targets.find(|target| target.name == name);
    Device::new(
        target.expect("the matrix has the target"),
        Arc::new(objects),
    )
}

fn objects() -> Objects {
    Objects::new().expect("the temporary folder can be written")
}

fn device() -> Device {
    device_of("sm_80-cpp", objects())
}

/// Problems of these names, in every schedule, by kernels of this engine; what was compared of them.
fn assert_right(target: &str, engine: &str, names: &[&str]) -> Vec<Compared> {
    let device = device_of(target, objects());
    let sets = [execute::matrix(), execute::in_terms(), execute::register()];
    let problems: Vec<_> = sets
        .into_iter()
        .flatten()
        .filter(|problem| names.contains(&problem.name.as_str()))
        .collect();
    assert_eq!(problems.len(), names.len(), "a name fits no problem");
    let mut all = Vec::new();
    for problem in problems {
        let checked = check(&device, &problem, &Schedule::ALL);
        let checked = checked.expect("the oracle takes the problem");
        let table = execute::table(&checked);
        assert!(checked.iter().all(Checked::passes), "{table}");
        for of_schedule in checked {
            for compared in of_schedule.outcome.expect("it passes") {
                let kernel = compared.kernel.as_ref();
                let kernel = kernel.expect("there is something to compute");
                assert!(kernel.starts_with(engine), "{kernel} ran");
                all.push(compared);
            }
        }
    }
    all
}

#[test]
fn every_option_at_once_is_right_in_every_order_of_threads() {
    assert_right("sm_80-cpp", "matrix_", &["everything/f16"]);
}

#[test]
fn elements_of_f32_in_terms_are_right_in_every_order_of_threads() {
    let names = ["everything/f32", "dim/40-value-72/f32", "scores/large/f32"];
    assert_right("sm_80-cpp", "matrix_", &names);
}

#[test]
fn few_queries_that_share_their_keys_among_cubes_are_right_in_every_order_of_threads() {
    assert_right("sm_80-cpp", "matrix_", &["parts/everything/f16"]);
}

#[test]
fn a_query_that_sees_one_key_has_a_gradient_of_zero_in_every_layout() {
    for target in ["sm_80-cpp", "gfx1100-cpp", "gfx1201-cpp"] {
        let compared = assert_right(target, "matrix_", &["one-query/first-key/f16"]);
        let gradients = compared.iter().filter(|compared| compared.pass == "dq");
        let errors: Vec<_> = gradients.map(|compared| compared.error).collect();
        assert!(!errors.is_empty(), "nothing was compared");
        assert_eq!(errors, vec![0.0; errors.len()], "{target}");
    }
}

#[test]
fn gradients_of_rows_that_attend_to_one_key_are_exact_where_sums_are_cut_off() {
    assert_right("sm_80-cpp", "matrix_", &["scores/thousands-short/f32"]);
}

#[test]
fn padded_dimensions_and_the_other_type_are_right_in_every_order_of_threads() {
    let names = ["dim/40-value-72/f16", "dim/80/bf16"];
    assert_right("sm_80-cpp", "matrix_", &names);
}

#[test]
fn code_with_a_block_map_is_right_in_every_order_of_threads() {
    assert_right("sm_80-cpp", "matrix_", &["code/window-mapped/f16"]);
}

#[test]
fn both_layouts_of_rdna_are_right_in_every_order_of_threads() {
    assert_right("gfx1100-cpp", "matrix_", &["dim/40-value-72/f16"]);
    assert_right("gfx1201-cpp", "matrix_", &["everything/bf16"]);
}

#[test]
fn the_register_engine_is_right_in_every_order_of_threads() {
    assert_right("sm_80-cpp", "attention_", &["register/everything/f32"]);
}

#[test]
fn lanes_that_share_rows_are_right_in_every_order_of_threads() {
    let names = ["register/few-everything/f32", "register/few-one-odd/f32"];
    assert_right("sm_80-cpp", "attention_", &names);
}

/// Reverses the input by way of shared memory.
#[cube(launch_unchecked)]
fn reverse(input: &[f32], output: &mut [f32], #[comptime] synchronized: bool) {
    let mut memory = Shared::<[f32]>::new_slice(UNITS);
    let unit = UNIT_POS as usize;
    memory[unit] = input[unit];
    if comptime!(synchronized) {
        sync_cube();
    }
    output[unit] = memory[UNITS - 1 - unit];
}

/// Half of a plane meets, while the other half waits for all.
#[cube(launch_unchecked)]
fn shuffle_in_half(input: &[f32], output: &mut [f32]) {
    let unit = UNIT_POS as usize;
    let mut value = input[unit];
    if UNIT_POS_PLANE < 16 {
        value = plane_shuffle_xor(value, 1);
    }
    sync_cube();
    output[unit] = value;
}

/// One plane waits once more than the other.
#[cube(launch_unchecked)]
fn wait_in_one_plane(input: &[f32], output: &mut [f32]) {
    let unit = UNIT_POS as usize;
    if unit < 32 {
        sync_cube();
    }
    sync_cube();
    output[unit] = input[unit];
}

/// Writes `by` elements behind where it should.
#[cube(launch_unchecked)]
fn shift(input: &[f32], output: &mut [f32], #[comptime] by: usize) {
    let unit = UNIT_POS as usize;
    output[unit + by] = input[unit];
}

/// The same in shared memory.
#[cube(launch_unchecked)]
fn shift_shared(input: &[f32], output: &mut [f32]) {
    let mut memory = Shared::<[f32]>::new_slice(UNITS);
    let unit = UNIT_POS as usize;
    memory[unit + 1] = input[unit];
    sync_cube();
    output[unit] = memory[unit];
}

/// What a kernel makes of 0, 1, 2 ... in a schedule.
fn run(
    schedule: Schedule,
    launch: impl Fn(&Client, CubeCount, CubeDim, BufferArg, BufferArg),
) -> Result<Vec<f32>, Fault> {
    let device = device();
    device.follow(schedule).expect("nothing was launched yet");
    let client = &device.client;
    let input: Vec<f32> = (0..UNITS).map(|unit| unit as f32).collect();
    let input = client.create_from_slice(f32::as_bytes(&input));
    let output = client.empty(UNITS * 4);
    // SAFETY: the lengths are those of the buffers.
    let argument = |handle| unsafe { BufferArg::from_raw_parts(handle, UNITS) };
    launch(
        client,
        CubeCount::new_single(),
        CubeDim::new_1d(UNITS as u32),
        argument(input),
        argument(output.clone()),
    );
    match client.read_one(output) {
        Ok(bytes) => Ok(f32::from_bytes(&bytes).to_vec()),
        Err(_) => Err(device.take_fault().expect("a launch failed for a reason")),
    }
}

fn reversed(synchronized: bool, schedule: Schedule) -> Vec<f32> {
    let result = run(schedule, |client, count, dim, input, output| unsafe {
        reverse::launch_unchecked(client, count, dim, input, output, synchronized);
    });
    result.expect("no thread waits for another")
}

#[test]
fn a_missing_barrier_shows_as_memory_that_nobody_has_written() {
    let right: Vec<f32> = (0..UNITS).rev().map(|unit| unit as f32).collect();
    for schedule in Schedule::ALL {
        assert_eq!(reversed(true, schedule), right, "{schedule}");
        let without = reversed(false, schedule);
        assert!(without.iter().any(|value| value.is_nan()), "{schedule}");
    }
}

#[test]
fn a_collective_that_half_a_warp_reaches_is_found() {
    let fault = run(
        Schedule::FirstFirst,
        |client, count, dim, input, output| unsafe {
            shuffle_in_half::launch_unchecked(client, count, dim, input, output);
        },
    );
    let Err(Fault::Divergent { waiting, .. }) = fault else {
        panic!("{fault:?}");
    };
    assert!(waiting.contains("__shfl_xor_sync"), "{waiting}");
    assert!(
        waiting.contains("from thread 16 on __syncthreads"),
        "{waiting}"
    );
}

#[test]
fn a_barrier_that_one_warp_never_reaches_is_found() {
    for schedule in Schedule::ALL {
        let fault = run(schedule, |client, count, dim, input, output| unsafe {
            wait_in_one_plane::launch_unchecked(client, count, dim, input, output);
        });
        assert!(matches!(fault, Err(Fault::Deadlock { .. })), "{fault:?}");
    }
}

#[test]
fn writes_beside_a_buffer_and_beside_shared_memory_are_found() {
    let beside = |fault: Result<Vec<f32>, Fault>| match fault {
        Err(Fault::OutOfBounds { memory, .. }) => memory,
        other => panic!("{other:?}"),
    };
    let fault = run(
        Schedule::FirstFirst,
        |client, count, dim, input, output| unsafe {
            shift::launch_unchecked(client, count, dim, input, output, 1);
        },
    );
    assert_eq!(beside(fault), "buffer 1");
    let fault = run(
        Schedule::LastFirst,
        |client, count, dim, input, output| unsafe {
            shift_shared::launch_unchecked(client, count, dim, input, output);
        },
    );
    assert_eq!(beside(fault), "shared memory");
}

#[test]
fn a_machine_without_a_compiler_is_told_so() {
    let objects = Objects::with_compiler("no-such-compiler").expect("a folder can be made");
    let device = device_of("sm_80-cpp", objects);
    let checked = check(&device, &execute::matrix()[0], &[Schedule::FirstFirst]);
    let checked = checked.expect("the oracle takes the problem");
    let said = checked[0].outcome.as_ref().expect_err("nothing compiles");
    assert!(
        said.contains("no C++ compiler runs: `no-such-compiler`"),
        "{said}"
    );
}
