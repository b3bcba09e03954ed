//! Bad input to the kernels and, on every device, to the operations: nothing is launched, and the
//! error names the argument, what was given and what is accepted.

use attention_core::{AttentionError, AttentionSpec, DType, oracle::Tensor4};
use attention_kernels::{
    modification::{Mask, Modification},
    softmax::{self, Inputs},
    variants,
};
use attention_models::{
    device::{DeviceError, DeviceKind, by_name},
    ops::{AttentionOptions, try_attention},
};
use burn::tensor::{Bool, Device, Tensor};

use crate::support::{Layout, devices, upload};

fn kernel_refusal(shapes: [[usize; 4]; 3], dtypes: [DType; 3], spec: AttentionSpec) -> String {
    let client = DeviceKind::Cpu
        .client()
        .expect("the processor is always there");
    let tensor = |index: usize| {
        let zeros = Tensor4::zeros(shapes[index]);
        upload(&client, &zeros, dtypes[index], Layout::Contiguous)
    };
    let inputs = Inputs::new(tensor(0), tensor(1), tensor(2));
    match softmax::forward(&client, &inputs, &spec) {
        Err(error) => error.to_string(),
        Ok(_) => panic!("{shapes:?} of {dtypes:?} with {spec:?} was accepted"),
    }
}

const FLOATS: [DType; 3] = [DType::F32; 3];

#[test]
fn kernels_refuse_head_dims_that_differ() {
    let shapes = [[1, 2, 5, 8], [1, 2, 5, 16], [1, 2, 5, 8]];
    let message = kernel_refusal(shapes, FLOATS, AttentionSpec::default());
    assert!(
        message.starts_with("`key` has shape [1, 2, 5, 16]; accepted: "),
        "{message}"
    );
}

#[test]
fn kernels_refuse_code_without_what_it_captured() {
    let length = |length: &u32| *length;
    let mask: Mask<u32> = variants::padding(3);
    let (modification, ..) = Modification::new(None, Some(mask), None, (length, length));
    let client = DeviceKind::Cpu
        .client()
        .expect("the processor is always there");
    let zeros = || {
        let zeros = Tensor4::zeros([3, 1, 4, 8]);
        upload(&client, &zeros, DType::F32, Layout::Contiguous)
    };
    let inputs = Inputs {
        modification,
        ..Inputs::new(zeros(), zeros(), zeros())
    };
    let refusal = softmax::forward(&client, &inputs, &AttentionSpec::default());
    assert_eq!(
        refusal.err().map(|error| error.to_string()).as_deref(),
        Some("`integers` has shape []; accepted: [1, 1, 1, 3], what the modification captured")
    );
}

#[test]
fn kernels_refuse_kv_heads_that_do_not_divide_the_heads() {
    let shapes = [[1, 8, 5, 8], [1, 3, 5, 8], [1, 3, 5, 8]];
    let message = kernel_refusal(shapes, FLOATS, AttentionSpec::default());
    assert!(
        message.contains("a number of heads that divides the query's 8"),
        "{message}"
    );
}

#[test]
fn kernels_refuse_a_head_dim_of_257() {
    let message = kernel_refusal([[1, 1, 2, 257]; 3], FLOATS, AttentionSpec::default());
    assert!(
        message.contains("a head dimension from 1 to 256"),
        "{message}"
    );
}

#[test]
fn kernels_refuse_an_empty_batch() {
    let message = kernel_refusal([[0, 1, 2, 8]; 3], FLOATS, AttentionSpec::default());
    assert!(message.contains("at least one batch element"), "{message}");
}

#[test]
fn kernels_refuse_mixed_dtypes() {
    let dtypes = [DType::F32, DType::F16, DType::F32];
    let message = kernel_refusal([[1, 2, 5, 8]; 3], dtypes, AttentionSpec::default());
    assert!(
        message.starts_with("`key` has dtype f16; accepted: "),
        "{message}"
    );
}

#[test]
fn kernels_refuse_a_scale_that_is_not_a_number() {
    let spec = AttentionSpec::default().with_scale(f64::NAN);
    let message = kernel_refusal([[1, 2, 5, 8]; 3], FLOATS, spec);
    assert!(
        message.starts_with("`scale` is NaN; accepted: "),
        "{message}"
    );
}

/// What each device says of self-attention `[2, 4, 5, 8]` with these options.
fn refusals(options: impl Fn(&Device) -> AttentionOptions) -> Vec<AttentionError> {
    let refusal = |kind: DeviceKind| {
        let device = kind.open().expect("the device was found");
        let tensor = Tensor::<4>::zeros([2, 4, 5, 8], &device);
        try_attention(tensor.clone(), tensor.clone(), tensor, options(&device))
            .expect_err("the input is bad")
    };
    devices().into_iter().map(refusal).collect()
}

#[test]
fn every_device_refuses_a_mask_that_does_not_broadcast() {
    let mask = |device: &Device| Tensor::<4, Bool>::full([2, 1, 5, 6], false, device);
    for error in refusals(|device| AttentionOptions::default().with_mask(mask(device))) {
        let accepted = "[2 or 1, 4 or 1, 5 or 1, 5 or 1] (batch, heads, seq_q, seq_kv)";
        let expected = AttentionError::Shape {
            argument: "mask",
            given: vec![2, 1, 5, 6],
            accepted: accepted.into(),
        };
        assert_eq!(error, expected);
    }
}

#[test]
fn every_device_refuses_tensors_of_another_device() {
    let bias = |device: &Device| {
        let elsewhere = if *device == Device::flex() {
            Device::cpu()
        } else {
            Device::flex()
        };
        Tensor::<4>::zeros([1, 1, 5, 5], &elsewhere)
    };
    for error in refusals(|device| AttentionOptions::default().with_bias(bias(device))) {
        let bias_is_named = matches!(
            error,
            AttentionError::Device {
                argument: "bias",
                ..
            }
        );
        assert!(bias_is_named, "{error}");
    }
}

#[test]
fn an_unknown_device_is_refused_with_those_there_are() {
    let error = by_name("gpu").expect_err("there is no such device");
    let accepted =
        "`device` is gpu; accepted: auto, cpu, cubecl-cpu, vulkan, wgpu, cuda, rocm, metal";
    assert_eq!(error.to_string(), accepted);
}

#[test]
fn an_absent_device_is_refused_with_those_found() {
    let absent = DeviceKind::ALL.into_iter().filter(|kind| !kind.found());
    for kind in absent {
        let error = kind.open().expect_err("the device is absent");
        let (DeviceError::NotCompiledIn { there, .. } | DeviceError::NotFound { there, .. }) =
            &error
        else {
            panic!("{error}");
        };
        assert_eq!(*there, DeviceKind::all_found());
        assert!(error.to_string().contains("; there is: cpu"), "{error}");
    }
}
