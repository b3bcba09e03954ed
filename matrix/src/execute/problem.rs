//! Attention problems with values: what the emulated device computes and the oracle knows.

use std::fmt;

use anyhow::Result;
use attention_core::{
    AttentionSpec, DType,
    oracle::{self, Inputs, Mask4, Tensor4},
};
use attention_kernels::{
    block_map::BlockShape,
    catalog::Entry,
    modification::{CapturedTensors, Mask, Modification, ScoreMod, WeightMod},
    softmax::Engine,
};
use half::{bf16, f16};

/// A function of a score and its place, for the oracle.
pub type Score = fn(&Problem, f64, [usize; 4]) -> (f64, f64);

/// A function of a place, for the oracle.
pub type At<T> = fn(&Problem, [usize; 4]) -> T;

/// Options as code: as kernels take them, and as the oracle does.
#[derive(Clone)]
pub struct Code {
    pub(super) modification: Modification,
    pub(super) captured: CapturedTensors<Vec<f32>, Vec<i32>>,
    pub(super) score: Option<Score>,
    pub(super) visible: Option<At<bool>>,
    pub(super) weight: Option<At<f64>>,
    /// Skip what the mask leaves nothing of.
    pub(super) blocks: Option<BlockShape>,
}

impl Default for Code {
    fn default() -> Self {
        Self::new(None, None, None)
    }
}

impl Code {
    /// As kernels take it; the oracle has yet to be told.
    pub(super) fn new(
        score: Option<ScoreMod<Vec<f32>, Vec<i32>>>,
        mask: Option<Mask<Vec<f32>, Vec<i32>>>,
        weight: Option<WeightMod<Vec<f32>, Vec<i32>>>,
    ) -> Self {
        let lengths = (
            |floats: &Vec<f32>| floats.len() as u32,
            |integers: &Vec<i32>| integers.len() as u32,
        );
        let (modification, captured) = Modification::new(score, mask, weight, lengths);
        Self {
            modification,
            captured,
            score: None,
            visible: None,
            weight: None,
            blocks: None,
        }
    }
}

/// A call, and the values that it is given.
#[derive(Clone)]
pub struct Problem {
    /// As `--case` spells it.
    pub name: String,
    /// The element type.
    pub dtype: DType,
    pub(super) inputs: Inputs,
    pub(super) spec: AttentionSpec,
    pub(super) grad_out: Tensor4,
    pub(super) grad_lse: Option<Vec<f64>>,
    pub(super) code: Code,
    /// Query, key, value and the output's gradient lie as `[batch, seq, heads, dim]`.
    pub(super) interleaved: bool,
    pub(super) engine: Engine,
}

impl fmt::Debug for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

/// What is compared, in this order.
pub const PASSES: [&str; 5] = ["out", "lse", "dq", "dk", "dv"];

/// The values of each of [`PASSES`].
pub type Outputs = [Vec<f64>; 5];

impl Problem {
    /// Random values, always the same, exact in `dtype`.
    pub fn new(entry: &Entry, dtype: DType) -> Self {
        let shapes = &entry.shapes;
        let [batch, heads, seq_q, _] = shapes.query;
        let values = |shape, seed| rounded(random(shape, seed), dtype);
        let hidden = |shape| {
            let values = random(shape, 5).data;
            Mask4::new(shape, values.iter().map(|value| *value > 0.5).collect())
        };
        Self {
            name: format!("{}/{dtype}", entry.name),
            dtype,
            inputs: Inputs {
                query: values(shapes.query, 1),
                key: values(shapes.key, 2),
                value: values(shapes.value, 3),
                mask: shapes.mask.map(hidden),
                bias: shapes.bias.map(|shape| values(shape, 6)),
            },
            spec: entry.spec,
            grad_out: values([batch, heads, seq_q, shapes.value[3]], 4),
            grad_lse: None,
            code: Code::default(),
            interleaved: false,
            engine: Engine::Auto,
        }
    }

    /// With a gradient of the log-sum-exp.
    pub(super) fn with_grad_lse(mut self) -> Self {
        let [batch, heads, seq_q, _] = self.inputs.query.shape;
        let values = random([batch, heads, seq_q, 1], 7);
        self.grad_lse = Some(rounded(values, DType::F32).data);
        self
    }

    /// With options as code.
    pub(super) fn with_code(mut self, code: Code) -> Self {
        self.code = code;
        self
    }

    /// With this query hidden from every key: its row is empty.
    pub(super) fn without_keys_for(mut self, query: usize) -> Self {
        if let Some(mask) = &mut self.inputs.mask {
            let [_, _, rows, keys] = mask.shape;
            for row in mask.data.chunks_mut(rows * keys) {
                row[query * keys..(query + 1) * keys].fill(true);
            }
        }
        self
    }

    /// The truth.
    ///
    /// # Errors
    /// Inputs that do not fit each other.
    pub fn expected(&self) -> Result<Outputs> {
        let code = &self.code;
        let score = |value: f64, at| {
            code.score
                .map_or((value, 1.0), |score| score(self, value, at))
        };
        let visible = |at| code.visible.is_none_or(|visible| visible(self, at));
        let weight = |at| code.weight.map_or(1.0, |weight| weight(self, at));
        let modification = oracle::Modification {
            score: code.score.is_some().then_some(&score),
            visible: code.visible.is_some().then_some(&visible),
            weight: code.weight.is_some().then_some(&weight),
        };
        let forward = oracle::forward_modified(&self.inputs, &self.spec, modification)?;
        let backward = oracle::backward_modified(
            &self.inputs,
            &self.spec,
            modification,
            &self.grad_out,
            self.grad_lse.as_deref(),
        )?;
        Ok([
            forward.out.data,
            forward.lse,
            backward.query.data,
            backward.key.data,
            backward.value.data,
        ])
    }
}

/// The nearest value that the type has.
pub(super) fn round(value: f64, dtype: DType) -> f64 {
    match dtype {
        DType::F32 => f64::from(value as f32),
        DType::F16 => f16::from_f64(value).to_f64(),
        DType::BF16 => bf16::from_f64(value).to_f64(),
    }
}

fn rounded(mut tensor: Tensor4, dtype: DType) -> Tensor4 {
    for value in &mut tensor.data {
        *value = round(*value, dtype);
    }
    tensor
}

/// Uniform in `[-1.5, 1.5]`, the same for the same seed.
fn random(shape: [usize; 4], seed: u64) -> Tensor4 {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f64 / (1u64 << 24) as f64 * 3.0 - 1.5
    };
    let values = (0..shape.iter().product()).map(|_| next()).collect();
    Tensor4::new(shape, values)
}
