//! The shapes that are measured, and what runs them.

use std::fmt;

use anyhow::{Result, anyhow};
use attention_core::{
    AttentionProblem, AttentionSpec, CausalAlignment, Cost, DType, backward_cost, forward_cost,
};
use burn::tensor::{Device, Distribution, Tensor, TensorData};
use serde::Serialize;

use crate::{
    cli::verify::burn_dtype,
    device::DeviceKind,
    ops::{AttentionOptions, attention, comparison::with_burn_attention},
};

const HEAD_DIMS: [usize; 2] = [64, 128];

/// Self-attention.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Shape {
    /// Sequences.
    pub batch: usize,
    /// Of queries, keys and values.
    pub heads: usize,
    /// Of queries, keys and values.
    pub head_dim: usize,
    /// Queries and keys.
    pub seq: usize,
    /// The type of the tensors.
    pub dtype: DType,
    /// Whether later keys are hidden.
    pub causal: bool,
    /// Whether gradients are computed too.
    pub backward: bool,
}

/// How much work a device is measured with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scale {
    /// For a few cores: one sequence, 8 heads.
    Cores,
    /// For a chip, which fewer would leave idle: 16384 tokens, as FlashAttention's papers have them, and 2048
    /// elements of all heads together.
    Chip,
}

impl Scale {
    /// What fits a device.
    pub fn of(kind: DeviceKind) -> Self {
        if kind.is_software() {
            Self::Cores
        } else {
            Self::Chip
        }
    }

    /// Runs that a device is given for one wait: a chip computes one while the host prepares the next, as in a model.
    pub fn runs_per_wait(self) -> u32 {
        match self {
            Self::Cores => 1,
            Self::Chip => 8,
        }
    }

    /// Of the matrix product that a device is measured by.
    pub fn product_side(self) -> usize {
        match self {
            Self::Cores => 1024,
            Self::Chip => 8192,
        }
    }

    fn lengths(self, quick: bool) -> &'static [usize] {
        match (self, quick) {
            (Self::Cores, true) => &[256, 1024],
            (Self::Cores, false) => &[256, 1024, 4096],
            (Self::Chip, true) => &[2048],
            (Self::Chip, false) => &[512, 2048, 8192],
        }
    }

    fn batch_and_heads(self, seq: usize, head_dim: usize) -> [usize; 2] {
        match self {
            Self::Cores => [1, 8],
            Self::Chip => [16384 / seq, 2048 / head_dim],
        }
    }
}

/// The shapes of the table; `quick` leaves out lengths.
pub fn shapes(scale: Scale, quick: bool) -> Vec<Shape> {
    let lengths = scale.lengths(quick);
    let mut shapes = Vec::new();
    for dtype in [DType::F32, DType::F16, DType::BF16] {
        for backward in [false, true] {
            for head_dim in HEAD_DIMS {
                for &seq in lengths {
                    let [batch, heads] = scale.batch_and_heads(seq, head_dim);
                    shapes.extend([false, true].map(|causal| Shape {
                        batch,
                        heads,
                        head_dim,
                        seq,
                        dtype,
                        causal,
                        backward,
                    }));
                }
            }
        }
    }
    shapes
}

impl Shape {
    /// Whether the device has the dtype.
    pub fn runs_on(&self, kind: DeviceKind) -> bool {
        kind.facts()
            .is_ok_and(|facts| facts.dtypes.contains(&self.dtype))
    }

    /// `[batch, heads, seq, head_dim]`.
    pub fn dims(&self) -> [usize; 4] {
        [self.batch, self.heads, self.seq, self.head_dim]
    }

    /// Self-attention.
    pub fn problem(&self) -> AttentionProblem {
        AttentionProblem {
            batch: self.batch,
            heads: self.heads,
            kv_heads: self.heads,
            value_heads: self.heads,
            seq_q: self.seq,
            seq_kv: self.seq,
            head_dim: self.head_dim,
            value_dim: self.head_dim,
        }
    }

    /// Floating-point operations and bytes that it cannot do without.
    pub fn cost(&self) -> Cost {
        let problem = self.problem();
        let forward = forward_cost(&problem, &self.spec(), self.dtype);
        if !self.backward {
            return forward;
        }
        let backward = backward_cost(&problem, &self.spec(), self.dtype);
        Cost {
            flops: forward.flops + backward.flops,
            bytes: forward.bytes + backward.bytes,
        }
    }

    /// Causal or not.
    pub fn spec(&self) -> AttentionSpec {
        AttentionSpec {
            causal: self.causal.then_some(CausalAlignment::BottomRight),
            ..AttentionSpec::default()
        }
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let causal = if self.causal { " causal" } else { "" };
        let pass = if self.backward {
            "forward+backward"
        } else {
            "forward"
        };
        let Self {
            batch,
            heads,
            head_dim,
            seq,
            dtype,
            ..
        } = self;
        write!(
            f,
            "B{batch} H{heads} D{head_dim} N{seq} {dtype}{causal} {pass}"
        )
    }
}

/// Whose attention runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Contender {
    /// This project's.
    Ours,
    /// Burn's own operation, as it ships.
    Burn,
}

/// A shape with its tensors on a device.
pub struct Workload {
    shape: Shape,
    contender: Contender,
    device: Device,
    tensors: [Tensor<4>; 3],
    options: AttentionOptions,
}

impl Workload {
    /// Random tensors.
    pub fn new(shape: Shape, contender: Contender, device: &Device) -> Self {
        let device = if shape.backward {
            device.clone().autodiff()
        } else {
            device.clone()
        };
        let dtype = burn_dtype(shape.dtype);
        let random = |_| {
            let tensor = Tensor::<4>::random(shape.dims(), Distribution::Normal(0.0, 1.0), &device);
            let tensor = tensor.cast(dtype).detach();
            if shape.backward {
                tensor.require_grad()
            } else {
                tensor
            }
        };
        Self {
            shape,
            contender,
            tensors: [0, 1, 2].map(random),
            options: AttentionOptions::from(shape.spec()),
            device,
        }
    }

    /// Ours with other options, on the same tensors.
    pub fn with_options(&self, options: AttentionOptions) -> Self {
        Self {
            shape: self.shape,
            contender: Contender::Ours,
            device: self.device.clone(),
            tensors: self.tensors.clone(),
            options,
        }
    }

    /// Where the tensors lie.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// What it runs.
    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// Query, key and value.
    pub fn data(&self) -> [TensorData; 3] {
        self.tensors.each_ref().map(Tensor::to_data)
    }

    /// Runs all but the attention once, so that what Burn compiles and tunes for the sum and its
    /// gradient is not taken for attention's.
    ///
    /// # Errors
    /// What the device fails with.
    pub fn warm_up_loss(&self) -> Result<()> {
        if self.shape.backward {
            let _gradients = self.tensors[0].clone().sum().backward();
        }
        wait(&self.device)
    }

    /// Runs once and waits for the device.
    ///
    /// # Errors
    /// What the device fails with.
    pub fn run(&self) -> Result<()> {
        self.run_queued(1)
    }

    /// Gives the device so many runs and waits for the last.
    ///
    /// # Errors
    /// What the device fails with.
    pub fn run_queued(&self, runs: u32) -> Result<()> {
        let mut last = None;
        for _ in 0..runs {
            last = Some(self.attend());
        }
        wait(&self.device)?;
        drop(last);
        Ok(())
    }

    /// Runs once and reads of each result a number: only then does a device say that it failed.
    ///
    /// # Errors
    /// Such as memory that cannot be had.
    pub fn check(&self) -> Result<()> {
        for result in self.attend() {
            result
                .slice([0..1, 0..1, 0..1, 0..1])
                .try_into_data()
                .map_err(|error| anyhow!("{error:?}"))?;
        }
        Ok(())
    }

    /// The output and, with a backward, the gradients.
    fn attend(&self) -> Vec<Tensor<4>> {
        let [query, key, value] = self.tensors.clone();
        let out = match self.contender {
            Contender::Ours => attention(query, key, value, self.options.clone()),
            Contender::Burn => {
                let options = self.options.clone();
                with_burn_attention(|| attention(query, key, value, options))
            }
        };
        let mut results = vec![out.clone()];
        if self.shape.backward {
            let gradients = out.sum().backward();
            let inputs = self.tensors.iter();
            results.extend(inputs.filter_map(|tensor| tensor.grad(&gradients)));
        }
        results
    }
}

/// Waits for all that the device was given.
///
/// # Errors
/// What the device fails with.
pub fn wait(device: &Device) -> Result<()> {
    device.sync().map_err(|error| anyhow!("{error:?}"))
}
