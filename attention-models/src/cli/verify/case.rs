//! One attention problem with its inputs, and its check against the truth.

use std::{fmt, sync::Arc};

use anyhow::Result;
use attention_core::{
    AttentionSpec, DType,
    oracle::{self, Inputs, Mask4, Tensor4},
};
use attention_kernels::catalog::Entry;
use burn::tensor::Device;
use half::{bf16, f16};

use super::{
    bound::{Devices, bound, distance, largest},
    run,
};
use crate::{
    cli::verify_models::Row,
    ops::{AttentionOptions, composition::unfused_attention, try_attention_with_lse},
};

/// An attention problem on the host.
#[derive(Debug, Clone)]
pub struct Case {
    /// What is special about it.
    pub name: String,
    /// The tensors; their values must be exact in the dtype that is checked.
    pub inputs: Inputs,
    /// The scalar options.
    pub spec: AttentionSpec,
    /// The gradient that arrives at the output.
    pub grad_out: Tensor4,
    /// What somebody else computed.
    pub known: Outputs,
    /// Ours gets these options instead of mask, bias and scalar options, which say the same to the
    /// oracle.
    pub code: Option<Code>,
}

/// Options with code, made on a device.
#[derive(Clone)]
pub struct Code(pub Arc<dyn Fn(&Device) -> AttentionOptions + Send + Sync>);

impl fmt::Debug for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Code")
    }
}

/// The outputs of a forward and backward pass by name: `out`, `lse`, `dq`, `dk`, `dv` and, with a
/// bias, `dbias`.
pub type Outputs = Vec<(&'static str, Vec<f64>)>;

impl Case {
    /// Random inputs, always the same, for a configuration of the catalog.
    pub fn of(entry: &Entry) -> Self {
        let shapes = &entry.shapes;
        let [batch, heads, seq_q, _] = shapes.query;
        Self {
            name: entry.name.clone(),
            inputs: Inputs {
                query: random(shapes.query, 1),
                key: random(shapes.key, 2),
                value: random(shapes.value, 3),
                mask: shapes.mask.map(|shape| random_mask(shape, 5)),
                bias: shapes.bias.map(|shape| random(shape, 6)),
            },
            spec: entry.spec,
            grad_out: random([batch, heads, seq_q, shapes.value[3]], 4),
            known: Vec::new(),
            code: None,
        }
    }

    /// The same case with its options spelled as code.
    pub fn with_code(
        mut self,
        options: impl Fn(&Device) -> AttentionOptions + Send + Sync + 'static,
    ) -> Self {
        self.code = Some(Code(Arc::new(options)));
        self
    }

    /// The same case with every value rounded to `dtype`.
    pub fn rounded_to(&self, dtype: DType) -> Self {
        let round = |tensor: &Tensor4| rounded(tensor, dtype);
        Self {
            inputs: Inputs {
                query: round(&self.inputs.query),
                key: round(&self.inputs.key),
                value: round(&self.inputs.value),
                mask: self.inputs.mask.clone(),
                bias: self.inputs.bias.as_ref().map(round),
            },
            grad_out: round(&self.grad_out),
            ..self.clone()
        }
    }

    /// The true outputs, by the oracle.
    ///
    /// # Errors
    /// Inputs that do not fit each other.
    pub fn expected(&self) -> Result<Outputs> {
        let forward = oracle::forward(&self.inputs, &self.spec)?;
        let backward = oracle::backward(&self.inputs, &self.spec, &self.grad_out, None)?;
        let mut outputs = vec![
            ("out", forward.out.data),
            ("lse", forward.lse),
            ("dq", backward.query.data),
            ("dk", backward.key.data),
            ("dv", backward.value.data),
        ];
        if self.code.is_none() {
            outputs.extend(backward.bias.map(|bias| ("dbias", bias.data)));
        }
        Ok(outputs)
    }

    /// What Burn's own operations give in `dtype` on `device`.
    ///
    /// # Errors
    /// Whatever the operation refuses.
    pub fn unfused(&self, dtype: DType, device: &Device) -> Result<Outputs> {
        let without_code = Self {
            code: None,
            ..self.clone()
        };
        run::forward_and_backward(&without_code, dtype, device, unfused_attention)
    }

    /// What our operation gives in `dtype` on `device`.
    ///
    /// # Errors
    /// Whatever the operation refuses.
    pub fn ours(&self, dtype: DType, device: &Device) -> Result<Outputs> {
        run::forward_and_backward(self, dtype, device, try_attention_with_lse)
    }

    fn measure(&self, dtype: DType, devices: Devices<'_>) -> Result<Measured> {
        Ok(Measured {
            ours: self.ours(dtype, devices.ours)?,
            unfused: self.unfused(dtype, devices.unfused)?,
            expected: self.expected()?,
        })
    }

    /// Ours compared with the oracle, once what somebody else computed confirms it; where that
    /// differs by more than its own rounding, it is what ours has to meet.
    fn rows(&self, dtype: DType, measured: &Measured) -> Vec<Row> {
        let scores = largest(find(&measured.expected, "lse"));
        let row = |(name, expected): &(&'static str, Vec<f64>)| {
            let dtype = if *name == "lse" { DType::F32 } else { dtype };
            let scale = largest(expected);
            let peer = distance(find(&measured.unfused, name), expected);
            // An unfused run that overflows says nothing of how exact one is.
            let bound = bound(if peer.is_finite() { peer } else { 0.0 }, dtype, scale);
            let known = self.known.iter().find(|(other, _)| other == name);
            let reference = known.map_or(expected, |(_, known)| known);
            let agrees = distance(reference, expected) <= self.credible_error(name, scores, scale);
            let truth = if agrees { expected } else { reference };
            Row {
                name: name.to_string(),
                dtype: run::dtype_name(dtype),
                worst_error: distance(find(&measured.ours, name), truth),
                bound,
            }
        };
        measured.expected.iter().map(row).collect()
    }

    /// How far what somebody else computed in `f32` may be from the oracle by rounding alone: half
    /// of the digits, the roundings of the scores, and those of the terms that cancel in a
    /// gradient, `dO V^T` and `delta`, however small their difference is.
    fn credible_error(&self, output: &str, scores: f64, scale: f64) -> f64 {
        let unit = DType::F32.unit_roundoff();
        let inputs = &self.inputs;
        let slopes = longest_row(&self.grad_out) * longest_row(&inputs.value);
        let factor = self.spec.scale_for(inputs.query.shape[3]);
        let cancelling = match output {
            "dq" => factor * slopes * largest(&inputs.key.data),
            "dk" => factor * slopes * largest(&inputs.query.data),
            "dbias" => slopes,
            _ => 0.0,
        };
        unit.sqrt() * scale + 4.0 * unit * (scores * scale + cancelling)
    }
}

/// What one case gave.
struct Measured {
    ours: Outputs,
    unfused: Outputs,
    expected: Outputs,
}

/// Runs cases forward and backward in `dtype` and compares every output.
/// `step` hears of each case before it runs.
pub fn check_all(
    cases: &[Case],
    dtype: DType,
    devices: Devices<'_>,
    step: impl Fn(&Case),
) -> Vec<Result<Vec<Row>>> {
    let check = |case: &Case| {
        step(case);
        let case = case.rounded_to(dtype);
        let measured = case.measure(dtype, devices)?;
        Ok(case.rows(dtype, &measured))
    };
    cases.iter().map(check).collect()
}

/// The values of an output; none where it is missing, which no comparison survives.
fn find<'a>(outputs: &'a Outputs, name: &str) -> &'a [f64] {
    let output = outputs.iter().find(|(other, _)| *other == name);
    output.map_or(&[], |(_, values)| values)
}

/// The largest Euclidean length of a row.
fn longest_row(tensor: &Tensor4) -> f64 {
    let rows = tensor.data.chunks(tensor.shape[3].max(1));
    let lengths = rows.map(|row| row.iter().map(|value| value * value).sum::<f64>().sqrt());
    lengths.fold(0.0, f64::max)
}

/// The nearest values that `dtype` has.
fn rounded(tensor: &Tensor4, dtype: DType) -> Tensor4 {
    let round = |value: &f64| match dtype {
        DType::F32 => f64::from(*value as f32),
        DType::F16 => f16::from_f64(*value).to_f64(),
        DType::BF16 => bf16::from_f64(*value).to_f64(),
    };
    Tensor4::new(tensor.shape, tensor.data.iter().map(round).collect())
}

/// Uniform in `[-1.5, 1.5]`, the same for the same seed.
fn random(shape: [usize; 4], seed: u64) -> Tensor4 {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut next = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f64 / (1u64 << 24) as f64 * 3.0 - 1.5
    };
    let values = (0..shape.iter().product()).map(|_| next()).collect();
    Tensor4::new(shape, values)
}

/// Hides about a third of the keys, the same for the same seed.
fn random_mask(shape: [usize; 4], seed: u64) -> Mask4 {
    let values = random(shape, seed).data;
    Mask4::new(shape, values.iter().map(|value| *value > 0.5).collect())
}
