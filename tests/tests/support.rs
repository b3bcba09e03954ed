//! Devices, goldens, and kernels run without Burn.

use std::path::PathBuf;

use attention_core::{
    DType,
    oracle::{Mask4, Tensor4},
};
use attention_kernels::{
    TensorRef,
    catalog::Sizes,
    device::elem_type,
    softmax::{self, BackwardInputs, Engine, Inputs, Wanted},
};
use attention_models::{
    cli::verify::{
        self, bound,
        case::{Case, Outputs},
        distance, largest,
    },
    device::DeviceKind,
};
use burn::tensor::{Device, Tensor};
use cubecl::{
    client::Client,
    ir::{ElemType, UIntKind},
    server::Handle,
};
use half::{bf16, f16};

/// The devices whose runtimes this machine can execute, or those that `ATTENTION_DEVICES` lists. Where
/// `cargo xtask test` has set up a software Vulkan, none of them may be missing.
pub fn devices() -> Vec<DeviceKind> {
    if let Ok(names) = std::env::var("ATTENTION_DEVICES") {
        let kinds = names.split(',').map(|name| {
            let kind: DeviceKind = name.parse().expect("`ATTENTION_DEVICES` lists devices");
            kind.open().expect("a device that is asked for is there");
            kind
        });
        return kinds.collect();
    }
    let found = DeviceKind::all_found();
    if std::env::var_os("ATTENTION_RUNNER").is_some() {
        for kind in [DeviceKind::Vulkan, DeviceKind::Wgpu] {
            assert!(found.contains(&kind), "{:?}", kind.open().err());
        }
    }
    found
}

/// One of [`devices`] for each runtime, for kernels run without Burn: `cubecl-cpu` runs them where `cpu` does.
pub fn runtimes() -> Vec<DeviceKind> {
    let mut kinds = devices();
    let twice = kinds.contains(&DeviceKind::Cpu);
    kinds.retain(|kind| !(twice && *kind == DeviceKind::CubeclCpu));
    kinds
}

/// The [`runtimes`] that take the `nth` case of a list. For WGSL, software Vulkan checks the bounds of every number
/// that a kernel loads, and compiles two to four times as long as for the SPIR-V of the same kernel: it takes every
/// third case, unless `ATTENTION_DEVICES` asks for it.
pub fn runtimes_of_case(nth: usize) -> Vec<DeviceKind> {
    let is_software = std::env::var_os("ATTENTION_RUNNER").is_some();
    let takes_all = !is_software || std::env::var_os("ATTENTION_DEVICES").is_some();
    let takes = |kind: &DeviceKind| *kind != DeviceKind::Wgpu || nth.is_multiple_of(3) || takes_all;
    runtimes().into_iter().filter(takes).collect()
}

/// What `ours` gives on each device that has `dtype` and is out of bounds of twice the unfused
/// error.
pub fn out_of_bounds(
    name: &str,
    dtype: DType,
    expected: &Outputs,
    unfused: &Outputs,
    ours: impl Fn(&Device) -> Outputs,
) -> Vec<String> {
    let find = |outputs: &Outputs, name: &str| {
        let output = outputs.iter().find(|(other, _)| *other == name);
        output.map_or_else(Vec::new, |(_, values)| values.clone())
    };
    let mut failures = Vec::new();
    for kind in devices() {
        if !kind.facts().expect("found").dtypes.contains(&dtype) {
            continue;
        }
        let ours = ours(&kind.open().expect("the device was found"));
        for (output, expected) in expected {
            let peer = distance(&find(unfused, output), expected);
            let dtype = if *output == "lse" { DType::F32 } else { dtype };
            let bound = bound(peer, dtype, largest(expected));
            let error = distance(&find(&ours, output), expected);
            if !(error.is_finite() && error <= bound) {
                failures.push(format!(
                    "{kind} {name} {output}: {error:e}, bound {bound:e}"
                ));
            }
        }
    }
    failures
}

/// Output, log-sum-exp and gradients of an operation on the tensors of a case, and the gradients of
/// the `learned` tensors.
pub fn outputs(
    case: &Case,
    dtype: DType,
    device: &Device,
    learned: &[(&'static str, Tensor<1>)],
    attend: impl FnOnce([Tensor<4>; 3]) -> (Tensor<4>, Tensor<3>),
) -> Outputs {
    let inputs = [&case.inputs.query, &case.inputs.key, &case.inputs.value]
        .map(|tensor| verify::upload(tensor, dtype, device).require_grad());
    let (out, lse) = attend(inputs.clone());
    let grad_out = verify::upload(&case.grad_out, dtype, device);
    let gradients = (out.clone() * grad_out).sum().backward();
    let mut outputs = vec![("out", read(out)), ("lse", read(lse))];
    for (name, input) in ["dq", "dk", "dv"].into_iter().zip(&inputs) {
        outputs.push((name, read(input.grad(&gradients).expect("it is tracked"))));
    }
    for (name, tensor) in learned {
        outputs.push((name, read(tensor.grad(&gradients).expect("it is tracked"))));
    }
    outputs
}

fn read<const D: usize>(tensor: Tensor<D>) -> Vec<f64> {
    tensor.into_data().iter::<f64>().collect()
}

/// Every place of the score matrix of a case, in the order of a dense bias.
pub fn places([batch, heads, _, rows, keys, ..]: Sizes) -> impl Iterator<Item = [usize; 4]> {
    (0..batch * heads * rows * keys).map(move |n| {
        [
            n / (heads * rows * keys),
            n / (rows * keys) % heads,
            n / keys % rows,
            n % keys,
        ]
    })
}

/// Holds ours on every device that has `dtype` against the oracle.
pub fn assert_within_bounds(case: &Case, dtype: DType) {
    let case = case.rounded_to(dtype);
    let expected = case.expected().expect("the oracle accepts the case");
    let flex = Device::flex();
    let unfused = case.unfused(dtype, &flex).expect("Burn accepts the case");
    let failures = out_of_bounds(&case.name, dtype, &expected, &unfused, |device| {
        case.ours(dtype, device).expect("the case is accepted")
    });
    assert!(failures.is_empty(), "\n{}", failures.join("\n"));
}

/// A golden of this repository: `models/vit`, `pretrained`.
pub fn golden(name: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/goldens")).join(name)
}

/// How a tensor lies in its buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// `[batch, heads, seq, dim]`
    Contiguous,
    /// `[batch, seq, heads, dim]`, as a projection leaves it.
    SequenceMajor,
}

/// Runs the kernels on a bare client and reads every output back, those of a [`Case`] in order.
pub fn run_kernels(client: &Client, case: &Case, dtype: DType, layout: Layout) -> Outputs {
    run_engine(Engine::Auto, client, case, dtype, layout)
}

/// [`run_kernels`] with an engine of choice.
pub fn run_engine(
    engine: Engine,
    client: &Client,
    case: &Case,
    dtype: DType,
    layout: Layout,
) -> Outputs {
    poison(client, case);
    let inputs = Inputs {
        engine,
        ..upload_inputs(client, case, dtype, layout)
    };
    let output = softmax::forward(client, &inputs, &case.spec).expect("the case is accepted");
    let [batch, heads, seq_q, _] = case.inputs.query.shape;
    let out = TensorRef::contiguous(output.out.clone(), case.grad_out.shape, elem_type(dtype));
    let lse = TensorRef::contiguous(
        output.lse.clone(),
        [batch, heads, seq_q, 1],
        elem_type(DType::F32),
    );
    let backward = BackwardInputs {
        out,
        lse,
        grad_out: upload(client, &case.grad_out, dtype, layout),
        grad_lse: None,
        forward: inputs,
    };
    let wanted = Wanted {
        bias: case.inputs.bias.is_some(),
        tables: false,
    };
    let gradients =
        softmax::backward(client, &backward, &case.spec, wanted).expect("the case is accepted");

    let elements = |tensor: &Tensor4| tensor.data.len();
    let read = |handle, count, dtype| download(client, handle, count, dtype);
    let inputs = &case.inputs;
    let mut outputs = vec![
        ("out", read(output.out, elements(&case.grad_out), dtype)),
        ("lse", read(output.lse, batch * heads * seq_q, DType::F32)),
        ("dq", read(gradients.query, elements(&inputs.query), dtype)),
        ("dk", read(gradients.key, elements(&inputs.key), dtype)),
        ("dv", read(gradients.value, elements(&inputs.value), dtype)),
    ];
    if let (Some(bias), Some(handle)) = (&inputs.bias, gradients.bias) {
        outputs.push(("dbias", read(handle, elements(bias), dtype)));
    }
    outputs
}

/// Leaves NaN in the memory that the kernels will get for outputs and scratch.
fn poison(client: &Client, case: &Case) {
    const NOT_A_NUMBER: u8 = 0xff;
    let tensors = [
        &case.inputs.query,
        &case.inputs.key,
        &case.inputs.value,
        &case.grad_out,
    ];
    for size in tensors.map(|tensor| 4 * tensor.data.len().max(1)) {
        let held: Vec<_> = (0..4)
            .map(|_| client.create_from_slice(&vec![NOT_A_NUMBER; size]))
            .collect();
        drop(held);
    }
}

fn upload_inputs(client: &Client, case: &Case, dtype: DType, layout: Layout) -> Inputs {
    let float = |tensor: &Tensor4| upload(client, tensor, dtype, layout);
    let [query, key, value] = [&case.inputs.query, &case.inputs.key, &case.inputs.value].map(float);
    Inputs {
        mask: case
            .inputs
            .mask
            .as_ref()
            .map(|mask| upload_mask(client, mask)),
        bias: case.inputs.bias.as_ref().map(float),
        ..Inputs::new(query, key, value)
    }
}

/// Puts a tensor on the device.
pub fn upload(client: &Client, tensor: &Tensor4, dtype: DType, layout: Layout) -> TensorRef {
    let [_, heads, seq, dim] = tensor.shape;
    let mut data = tensor.data.clone();
    if layout == Layout::SequenceMajor {
        for (index, value) in tensor.data.iter().enumerate() {
            let (d, s, h) = (index % dim, index / dim % seq, index / (dim * seq) % heads);
            let b = index / (dim * seq * heads);
            data[((b * seq + s) * heads + h) * dim + d] = *value;
        }
    }
    let handle = client.create_from_slice(&encode(&data, dtype));
    let mut tensor = TensorRef::contiguous(handle, tensor.shape, elem_type(dtype));
    if layout == Layout::SequenceMajor {
        tensor.strides = [seq * heads * dim, dim, heads * dim, 1];
    }
    tensor
}

/// As bytes where the device has them, else as words.
fn upload_mask(client: &Client, mask: &Mask4) -> TensorRef {
    let byte = ElemType::UInt(UIntKind::U8);
    let (elem, size) = if client.properties().supports_type(byte) {
        (byte, 1)
    } else {
        (ElemType::UInt(UIntKind::U32), 4)
    };
    let mut bytes = vec![0u8; (mask.data.len() * size).max(4)];
    for (index, hidden) in mask.data.iter().enumerate() {
        bytes[index * size] = u8::from(*hidden);
    }
    TensorRef::contiguous(client.create_from_slice(&bytes), mask.shape, elem)
}

/// A buffer of no bytes cannot be bound to a kernel.
fn encode(data: &[f64], dtype: DType) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(data.len() * dtype.bytes());
    for value in data {
        match dtype {
            DType::F32 => bytes.extend((*value as f32).to_le_bytes()),
            DType::F16 => bytes.extend(f16::from_f64(*value).to_le_bytes()),
            DType::BF16 => bytes.extend(bf16::from_f64(*value).to_le_bytes()),
        }
    }
    bytes.resize(bytes.len().max(4), 0);
    bytes
}

fn download(client: &Client, handle: Handle, count: usize, dtype: DType) -> Vec<f64> {
    if count == 0 {
        return Vec::new();
    }
    let bytes = client.read_one(handle).expect("the kernels ran");
    let values = bytes.chunks_exact(dtype.bytes()).map(|bytes| match dtype {
        DType::F32 => f64::from(f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])),
        DType::F16 => f16::from_le_bytes([bytes[0], bytes[1]]).to_f64(),
        DType::BF16 => bf16::from_le_bytes([bytes[0], bytes[1]]).to_f64(),
    });
    values.take(count).collect()
}
