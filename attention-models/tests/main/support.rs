//! Devices, inputs and the runs that are compared.

use attention_core::AttentionSpec;
use attention_models::device::DeviceKind;
use attention_models::ops::{
    AttentionError, AttentionOptions, composition::unfused_attention, try_attention_with_lse,
};
use burn::tensor::{Bool, DType, Device, Tensor, TensorData};

/// Every device that this machine can execute.
pub fn devices() -> Vec<Device> {
    DeviceKind::all_found()
        .into_iter()
        .map(|kind| kind.open().expect("the device was found"))
        .collect()
}

/// One attention problem with its options.
#[derive(Debug, Clone, Copy)]
pub struct Case {
    pub batch: usize,
    pub heads: usize,
    pub kv_heads: usize,
    pub seq_q: usize,
    pub seq_kv: usize,
    pub head_dim: usize,
    pub value_dim: usize,
    pub spec: AttentionSpec,
    pub mask: Option<[usize; 4]>,
    pub bias: Option<[usize; 4]>,
    pub dtype: DType,
}

impl Case {
    /// `[batch, heads, seq, head_dim]` self-attention in `f32` without options.
    pub fn new([batch, heads, seq, head_dim]: [usize; 4]) -> Self {
        Self {
            batch,
            heads,
            kv_heads: heads,
            seq_q: seq,
            seq_kv: seq,
            head_dim,
            value_dim: head_dim,
            spec: AttentionSpec::default(),
            mask: None,
            bias: None,
            dtype: DType::F32,
        }
    }

    fn query(&self) -> [usize; 4] {
        [self.batch, self.heads, self.seq_q, self.head_dim]
    }

    fn key(&self) -> [usize; 4] {
        [self.batch, self.kv_heads, self.seq_kv, self.head_dim]
    }

    fn value(&self) -> [usize; 4] {
        [self.batch, self.kv_heads, self.seq_kv, self.value_dim]
    }

    fn out(&self) -> [usize; 4] {
        [self.batch, self.heads, self.seq_q, self.value_dim]
    }

    fn lse(&self) -> [usize; 3] {
        [self.batch, self.heads, self.seq_q]
    }
}

/// The tensors of a case.
#[derive(Clone)]
pub struct Inputs {
    pub query: Tensor<4>,
    pub key: Tensor<4>,
    pub value: Tensor<4>,
    pub options: AttentionOptions,
    pub grad_out: Tensor<4>,
    pub grad_lse: Tensor<3>,
}

impl Inputs {
    /// Reproducible inputs on `device`, tracked if it is an autodiff device.
    pub fn new(case: &Case, device: &Device) -> Self {
        let float = |shape, seed| {
            let tensor = Tensor::<4>::from_data(random(shape, seed), device).cast(case.dtype);
            if device.is_autodiff() {
                tensor.require_grad()
            } else {
                tensor
            }
        };
        let lse = case.lse();
        let grad_lse = random([lse[0], lse[1], lse[2], 1], 7);
        Self {
            query: float(case.query(), 1),
            key: float(case.key(), 2),
            value: float(case.value(), 3),
            options: AttentionOptions {
                spec: case.spec,
                mask: case.mask.map(|shape| mask(shape, device)),
                bias: case.bias.map(|shape| float(shape, 5)),
                ..AttentionOptions::default()
            },
            grad_out: Tensor::<4>::from_data(random(case.out(), 6), device).cast(case.dtype),
            grad_lse: Tensor::<4>::from_data(grad_lse, device).reshape(lse),
        }
    }
}

/// Uniform in `[-1.5, 1.5]`, the same for the same seed.
pub fn random(shape: [usize; 4], seed: u64) -> TensorData {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let values: Vec<f32> = (0..shape.iter().product())
        .map(|_| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (state >> 40) as f32 / (1u64 << 24) as f32 * 3.0 - 1.5
        })
        .collect();
    TensorData::new(values, shape)
}

fn mask(shape: [usize; 4], device: &Device) -> Tensor<4, Bool> {
    Tensor::<4>::from_data(random(shape, 4), device)
        .detach()
        .greater_elem(0.6)
}

/// Which gradients flow back into the operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    Out,
    Lse,
    Both,
}

/// Everything that an attention gives, in `f64`.
#[derive(Debug)]
pub struct Run {
    pub out: Vec<f64>,
    pub lse: Vec<f64>,
    pub query: Vec<f64>,
    pub key: Vec<f64>,
    pub value: Vec<f64>,
    pub bias: Option<Vec<f64>>,
}

/// Ours, or Burn's operations.
pub type Operation = fn(
    Tensor<4>,
    Tensor<4>,
    Tensor<4>,
    AttentionOptions,
) -> Result<(Tensor<4>, Tensor<3>), AttentionError>;

/// Our operation, forward and backward.
pub fn fused(inputs: &Inputs, loss: Loss) -> Run {
    run(try_attention_with_lse, inputs, loss)
}

/// Burn's operations, forward and backward, in the dtype of the inputs.
pub fn unfused(inputs: &Inputs, loss: Loss) -> Run {
    run(unfused_attention, inputs, loss)
}

fn run(operation: Operation, inputs: &Inputs, loss: Loss) -> Run {
    let Inputs {
        query,
        key,
        value,
        options,
        ..
    } = inputs.clone();
    let (out, lse) = operation(query.clone(), key.clone(), value.clone(), options.clone())
        .expect("the inputs of a case are accepted");
    let by_out = (out.clone() * inputs.grad_out.clone())
        .sum()
        .cast(DType::F32);
    let by_lse = (lse.clone() * inputs.grad_lse.clone()).sum();
    let gradients = match loss {
        Loss::Out => by_out,
        Loss::Lse => by_lse,
        Loss::Both => by_out + by_lse,
    }
    .backward();
    // The log-sum-exp does not depend on the value: Burn then has no gradient where we have 0.
    let gradient = |tensor: &Tensor<4>| match tensor.grad(&gradients) {
        Some(gradient) => {
            assert_eq!(gradient.dims(), tensor.dims());
            floats(gradient)
        }
        None => vec![0.0; tensor.dims().iter().product()],
    };
    Run {
        query: gradient(&query),
        key: gradient(&key),
        value: gradient(&value),
        bias: options.bias.as_ref().map(gradient),
        out: floats(out),
        lse: floats(lse),
    }
}

/// The values of a tensor.
pub fn floats<const D: usize>(tensor: Tensor<D>) -> Vec<f64> {
    tensor.into_data().iter::<f64>().collect()
}
