//! A problem's tensors on the emulated device, and its kernels' results back.

use anyhow::Result;
use attention_core::{DType, oracle::Tensor4};
use attention_kernels::{
    TensorRef,
    block_map::block_map,
    device::elem_type,
    softmax::{self, BackwardInputs, Inputs, Wanted},
};
use cubecl::{
    ir::{ElemType, UIntKind},
    server::Handle,
};
use half::{bf16, f16};

use super::{
    device::Device,
    problem::{Outputs, Problem},
    schedule::Schedule,
};

/// What the kernels give.
pub(super) fn run(device: &Device, problem: &Problem, schedule: Schedule) -> Result<Outputs> {
    device.follow(schedule)?;
    let upload = Upload { device, problem };
    let inputs = upload.inputs()?;
    let client = &device.client;
    let output = softmax::forward(client, &inputs, &problem.spec)?;
    let elem = elem_type(problem.dtype);
    let [batch, heads, seq_q, _] = problem.inputs.query.shape;
    let row = [batch, heads, seq_q, 1];
    let rows = batch * heads * seq_q;
    let contiguous = TensorRef::contiguous;
    let float = elem_type(DType::F32);
    let grad_lse = problem.grad_lse.as_ref().map(|values| {
        let handle = client.create_from_slice(&encoded(values, DType::F32));
        contiguous(handle, row, float)
    });
    let backward = BackwardInputs {
        forward: inputs,
        out: contiguous(output.out.clone(), problem.grad_out.shape, elem),
        lse: contiguous(output.lse.clone(), row, float),
        grad_out: upload.tensor(&problem.grad_out),
        grad_lse,
    };
    let gradients = softmax::backward(client, &backward, &problem.spec, Wanted::default())?;
    let read = |handle: Handle, elements: usize, dtype: DType| -> Result<Vec<f64>> {
        let bytes = client.read_one(handle)?;
        let mut values = decoded(&bytes, dtype);
        values.truncate(elements);
        Ok(values)
    };
    let dtype = problem.dtype;
    let inputs = &problem.inputs;
    Ok([
        read(output.out, problem.grad_out.data.len(), dtype)?,
        read(output.lse, rows, DType::F32)?,
        read(gradients.query, inputs.query.data.len(), dtype)?,
        read(gradients.key, inputs.key.data.len(), dtype)?,
        read(gradients.value, inputs.value.data.len(), dtype)?,
    ])
}

struct Upload<'a> {
    device: &'a Device,
    problem: &'a Problem,
}

impl Upload<'_> {
    fn inputs(&self) -> Result<Inputs> {
        let client = &self.device.client;
        let Problem { inputs, code, .. } = self.problem;
        let word = ElemType::UInt(UIntKind::U32);
        let float = elem_type(DType::F32);
        let flat = |bytes: Vec<u8>, elem: ElemType| {
            let elements = bytes.len() / 4;
            (elements > 0).then(|| {
                let handle = client.create_from_slice(&bytes);
                TensorRef::contiguous(handle, [1, 1, 1, elements], elem)
            })
        };
        let joined = |tensors: &[Vec<f32>]| {
            let values = tensors.iter().flatten();
            values.flat_map(|value| value.to_ne_bytes()).collect()
        };
        let integers = code.captured.integers.iter().flatten();
        let integers = integers.flat_map(|value| value.to_ne_bytes()).collect();
        let mask = inputs.mask.as_ref().map(|mask| {
            let words = mask.data.iter().map(|&hidden| u32::from(hidden));
            let bytes: Vec<u8> = words.flat_map(u32::to_ne_bytes).collect();
            TensorRef::contiguous(client.create_from_slice(&bytes), mask.shape, word)
        });
        let mut uploaded = Inputs {
            query: self.tensor(&inputs.query),
            key: self.tensor(&inputs.key),
            value: self.tensor(&inputs.value),
            mask,
            bias: inputs.bias.as_ref().map(|bias| {
                let handle = client.create_from_slice(&encoded(&bias.data, self.problem.dtype));
                TensorRef::contiguous(handle, bias.shape, elem_type(self.problem.dtype))
            }),
            modification: code.modification.clone(),
            floats: flat(joined(&code.captured.floats), float),
            integers: flat(integers, word),
            tables: flat(joined(&code.captured.tables), float),
            block_map: None,
            engine: self.problem.engine,
        };
        if let Some(shape) = code.blocks {
            let (floats, integers) = (uploaded.floats.as_ref(), uploaded.integers.as_ref());
            let map = block_map(client, &uploaded.modification, floats, integers, shape)?;
            uploaded.block_map = Some(map);
        }
        Ok(uploaded)
    }

    fn tensor(&self, tensor: &Tensor4) -> TensorRef {
        let client = &self.device.client;
        let dtype = self.problem.dtype;
        let elem = elem_type(dtype);
        let [batch, heads, seq, dim] = tensor.shape;
        if !self.problem.interleaved {
            let handle = client.create_from_slice(&encoded(&tensor.data, dtype));
            return TensorRef::contiguous(handle, tensor.shape, elem);
        }
        let values: Vec<f64> = (0..tensor.data.len())
            .map(|n| {
                let (b, s, h, d) = (
                    n / (seq * heads * dim),
                    n / (heads * dim) % seq,
                    n / dim % heads,
                    n % dim,
                );
                tensor.data[((b * heads + h) * seq + s) * dim + d]
            })
            .collect();
        TensorRef {
            handle: client.create_from_slice(&encoded(&values, dtype)),
            shape: [batch, heads, seq, dim],
            strides: [seq * heads * dim, dim, heads * dim, 1],
            elem,
        }
    }
}

fn encoded(values: &[f64], dtype: DType) -> Vec<u8> {
    let values = values.iter();
    match dtype {
        DType::F32 => values.flat_map(|v| (*v as f32).to_ne_bytes()).collect(),
        DType::F16 => values
            .flat_map(|v| f16::from_f64(*v).to_ne_bytes())
            .collect(),
        DType::BF16 => values
            .flat_map(|v| bf16::from_f64(*v).to_ne_bytes())
            .collect(),
    }
}

fn decoded(bytes: &[u8], dtype: DType) -> Vec<f64> {
    let halves = bytes.as_chunks::<2>().0.iter();
    match dtype {
        DType::F32 => {
            let words = bytes.as_chunks::<4>().0.iter();
            words.map(|word| f32::from_ne_bytes(*word).into()).collect()
        }
        DType::F16 => halves.map(|h| f16::from_ne_bytes(*h).to_f64()).collect(),
        DType::BF16 => halves.map(|h| bf16::from_ne_bytes(*h).to_f64()).collect(),
    }
}
