//! Engines by name: they agree with the oracle where a device has them, and are refused where it has not.

use attention_core::{AttentionSpec, DType, oracle::Tensor4};
use attention_kernels::{
    catalog::Entry,
    device::elem_type,
    softmax::{self, Engine, Inputs, engines},
};
use attention_models::{
    cli::verify::case::Case,
    device::DeviceKind,
    ops::{AttentionOptions, try_attention},
};
use burn::tensor::Tensor;
use cubecl::client::Client;

use crate::{
    cases::{everything, head_dims, large_scores, lengths, rows_without_keys},
    support::{Layout, devices, run_engine, runtimes, upload},
    sweep::{assert_engines_within_bounds, offers},
};

/// The engines besides the one that every device has.
fn matrix_engines(client: &Client) -> Vec<Engine> {
    let mut found = engines(client, elem_type(DType::F16));
    found.retain(|engine| *engine != Engine::Register);
    found
}

/// Then tiles are larger.
fn more_rows_than_a_device_runs_at_once() -> [Case; 2] {
    [64, 128].map(|dim| {
        let sizes = [2, 68, 68, 100, 130, dim, dim];
        Case::of(&Entry::new(format!("136 heads of {dim}"), sizes))
    })
}

#[test]
fn cooperative_matrices_and_matrix_instructions_agree_with_the_oracle() {
    let mut cases = head_dims(&[
        (8, 8),
        (40, 40),
        (59, 111),
        (64, 64),
        (128, 128),
        (256, 256),
    ]);
    // One key, more keys than queries, fewer, and several blocks of both.
    cases.extend([0, 1, 4, 5, 13, 21].map(|index| lengths()[index].clone()));
    cases.extend(rows_without_keys());
    cases.extend(large_scores(8.0));
    cases.extend(everything());
    cases.extend(more_rows_than_a_device_runs_at_once());
    assert_engines_within_bounds(&cases, DType::F16, Layout::Contiguous, matrix_engines);
}

/// On cards that multiply f32 in terms, nothing else runs it.
#[test]
fn registers_agree_with_the_oracle_where_matrix_instructions_would_be_chosen() {
    let mut cases = head_dims(&[(8, 8), (59, 111), (64, 64), (128, 128)]);
    cases.extend(lengths().into_iter().skip(20).take(2));
    cases.extend(rows_without_keys());
    cases.extend(large_scores(40.0));
    cases.extend(everything());
    let registers = |client: &Client| {
        let mut found = engines(client, elem_type(DType::F32));
        let chosen = found.contains(&Engine::Mma);
        found.retain(|engine| chosen && *engine == Engine::Register);
        found
    };
    assert_engines_within_bounds(&cases, DType::F32, Layout::Contiguous, registers);
}

#[test]
fn matrix_engines_read_views_as_they_lie_and_give_the_same_bits() {
    let case = lengths()[20].rounded_to(DType::F16);
    for kind in runtimes()
        .into_iter()
        .filter(|kind| offers(*kind, DType::F16))
    {
        let client = kind.client().expect("the device was found");
        for engine in matrix_engines(&client) {
            let run = |layout| run_engine(engine, &client, &case, DType::F16, layout);
            let first = run(Layout::Contiguous);
            assert_eq!(first, run(Layout::Contiguous), "{kind} {engine}");
            assert_eq!(first, run(Layout::SequenceMajor), "{kind} {engine}");
        }
    }
}

#[test]
fn an_engine_that_a_device_does_not_have_is_refused_by_name() {
    // A WebGPU device may say that it has cooperative matrices, and its shaders cannot use them.
    for kind in runtimes() {
        let client = kind.client().expect("the device was found");
        let dtype = if kind == DeviceKind::Vulkan {
            DType::F32
        } else {
            DType::F16
        };
        let zeros = || {
            let zeros = Tensor4::zeros([1, 1, 4, 64]);
            upload(&client, &zeros, dtype, Layout::Contiguous)
        };
        let there = engines(&client, elem_type(dtype));
        for engine in [Engine::Cmma, Engine::Mma] {
            let inputs = Inputs {
                engine,
                ..Inputs::new(zeros(), zeros(), zeros())
            };
            let refusal = softmax::forward(&client, &inputs, &AttentionSpec::default());
            let message = refusal.map(|_| ()).map_err(|error| error.to_string());
            let expected = format!("`engine` is {engine}; accepted: auto, register or tuned: ");
            let refused = message
                .as_ref()
                .is_err_and(|message| message.starts_with(&expected));
            let accepted = there.contains(&engine) && message.is_ok();
            assert!(refused || accepted, "{kind} {message:?}");
        }
    }
}

#[test]
fn operations_refuse_an_engine_before_anything_is_launched() {
    for kind in devices() {
        let device = kind.open().expect("the device was found");
        let client = kind.client().expect("the device was found");
        let there = engines(&client, elem_type(DType::F32));
        for device in [device.clone(), device.autodiff()] {
            let zeros = || Tensor::<4>::zeros([1, 1, 20, 64], &device);
            let absent = [Engine::Cmma, Engine::Mma].into_iter();
            for engine in absent.filter(|engine| !there.contains(engine)) {
                let options = AttentionOptions::default().with_engine(engine);
                let refusal = try_attention(zeros(), zeros(), zeros(), options);
                let message = refusal.map(drop).map_err(|error| error.to_string());
                let expected = format!("`engine` is {engine}; accepted: auto, register or tuned: ");
                assert!(
                    message
                        .as_ref()
                        .is_err_and(|said| said.starts_with(&expected)),
                    "{kind} {message:?}"
                );
            }
        }
    }
}
