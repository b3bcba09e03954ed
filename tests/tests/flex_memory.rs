//! What attention on flex keeps in the CPU runtime's memory, and for how long.

use std::{
    thread,
    time::{Duration, Instant},
};

use attention_models::{device::DeviceKind, ops::attention};
use burn::tensor::{Device, Distribution, Tensor};
use cubecl::MemoryScope;

const SHAPE: [usize; 4] = [1, 4, 256, 64];

fn random(device: &Device) -> Tensor<4> {
    Tensor::random(SHAPE, Distribution::Default, device)
}

fn read(tensor: Tensor<4>) -> Vec<f32> {
    tensor
        .into_data()
        .try_to_vec()
        .expect("flex computes in single precision")
}

/// Bytes of the CPU runtime in use by this thread.
fn in_use() -> u64 {
    let client = DeviceKind::Cpu
        .client()
        .expect("the processor is always there");
    let report = client.memory_report(MemoryScope::CurrentStream);
    report.usage().bytes_in_use
}

/// A worker says that its part of a launch is done before it lets go of the buffers: a busy machine may come in
/// between.
fn assert_frees_down_to(most: u64) {
    let clock = Instant::now();
    while in_use() > most {
        let waited = clock.elapsed();
        assert!(waited < Duration::from_secs(20), "{} bytes stay", in_use());
        thread::yield_now();
    }
}

#[test]
fn a_tensor_that_is_overwritten_after_the_forward_pass_is_read_anew() {
    let device = Device::flex().autodiff();
    let query = random(&device);
    let [key, value] = [0; 2].map(|_| random(&device).require_grad());
    let [before, keys, values] = [&query, &key, &value].map(|t| read(t.clone().inner()));
    let out = attention(
        query.clone(),
        key.clone(),
        value.clone(),
        Default::default(),
    );

    // The graph is gone, so that the query has one owner and is overwritten where it lies.
    drop(out);
    let query = query * -2.0;
    let after = attention(query, key, value, Default::default());

    let fresh = |data: &[f32]| Tensor::<1>::from_floats(data, &Device::flex()).reshape(SHAPE);
    let expected = attention(
        fresh(&before) * -2.0,
        fresh(&keys),
        fresh(&values),
        Default::default(),
    );
    assert_eq!(read(after.inner()), read(expected));
}

#[test]
fn an_output_that_is_overwritten_before_the_backward_pass_is_differentiated_as_it_was() {
    let device = Device::flex().autodiff();
    let leaves = [0; 3].map(|_| random(&device).require_grad());
    let gradients = |overwrite: bool| {
        let [query, key, value] = leaves.clone();
        let out = attention(query, key, value, Default::default());
        let sum = out.clone().sum();
        if overwrite {
            let overwritten = out.inner() * 0.0;
            assert_eq!(read(overwritten)[0], 0.0);
        }
        let gradients = sum.backward();
        leaves
            .each_ref()
            .map(|leaf| read(leaf.grad(&gradients).expect("it is tracked")))
    };
    assert_eq!(gradients(true), gradients(false));
}

#[test]
fn training_steps_free_what_they_kept_and_inference_keeps_nothing() {
    let device = Device::flex().autodiff();
    let step = || {
        let leaf = random(&device).require_grad();
        let [query, key, value] = [1.0, 2.0, 3.0].map(|factor| leaf.clone() * factor);
        let out = attention(query, key, value, Default::default());
        let tensors = 4 * SHAPE.iter().product::<usize>() * size_of::<f32>();
        assert!(in_use() >= tensors as u64, "the backward pass needs them");
        let gradients = out.sum().backward();
        assert!(leaf.grad(&gradients).is_some());
    };
    step();
    let first = in_use();
    for _ in 0..5 {
        step();
    }
    assert_frees_down_to(first);

    let x = random(&Device::flex());
    let out = attention(x.clone(), x.clone(), x.clone(), Default::default());
    drop(out);
    assert_frees_down_to(0);
}
