//! Problems on the emulated device, in every schedule, compared with the oracle.

use std::fmt::Write as _;

use anyhow::Result;
use attention_core::DType;
use attention_kernels::{
    TensorRef,
    block_map::block_map,
    device::elem_type,
    softmax::{self, BackwardInputs, Engine, Inputs, Wanted},
};
use cubecl::{
    ir::{ElemType, UIntKind},
    server::Handle,
};
use half::{bf16, f16};

use super::{
    device::Device,
    problem::{Outputs, PASSES, Problem},
    schedule::Schedule,
    unfused::{bound, distance, unfused},
};

/// What one problem gave in one schedule.
#[derive(Debug, Clone)]
pub struct Checked {
    /// The device that was emulated.
    pub target: &'static str,
    /// The problem's name.
    pub problem: String,
    /// The order of threads.
    pub schedule: Schedule,
    /// What was compared, or what went wrong before.
    pub outcome: Result<Vec<Compared>, String>,
}

/// One of [`PASSES`].
#[derive(Debug, Clone, PartialEq)]
pub struct Compared {
    /// Which.
    pub pass: &'static str,
    /// The kernel that computed it; none where there was nothing to compute.
    pub kernel: Option<String>,
    /// The largest difference from the oracle.
    pub error: f64,
    /// What is allowed.
    pub bound: f64,
    /// Whether the bits are those of the first schedule.
    pub same_bits: bool,
}

impl Compared {
    /// Within the bound, whatever the schedule.
    pub fn passes(&self) -> bool {
        self.error <= self.bound && self.same_bits
    }
}

impl Checked {
    /// Only the passes that kernels of this name compute.
    pub fn keep(&mut self, kernel: &str) {
        if let Ok(compared) = &mut self.outcome {
            let is_of = |name: &String| name.contains(kernel);
            compared.retain(|compared| compared.kernel.as_ref().is_some_and(is_of));
        }
    }

    /// Every pass does.
    pub fn passes(&self) -> bool {
        let passed = |compared: &Vec<Compared>| compared.iter().all(Compared::passes);
        self.outcome.as_ref().is_ok_and(passed)
    }
}

/// Runs a problem forward and backward in these schedules.
///
/// # Errors
/// Inputs that the oracle refuses.
pub fn check(device: &Device, problem: &Problem, schedules: &[Schedule]) -> Result<Vec<Checked>> {
    let expected = problem.expected()?;
    let peer = unfused(problem);
    let mut first: Option<Outputs> = None;
    let mut checked = Vec::new();
    for &schedule in schedules {
        let outputs = run(device, problem, schedule);
        let launched = device.take_launched();
        let outcome = outputs.map(|outputs| {
            let known = first.get_or_insert_with(|| outputs.clone());
            let compare = |(index, pass): (usize, &&'static str)| Compared {
                pass,
                kernel: kernel_of(index, &launched),
                error: distance(&outputs[index], &expected[index]),
                bound: bound(problem, index, &peer[index], &expected[index]),
                same_bits: bits(&outputs[index]) == bits(&known[index]),
            };
            PASSES.iter().enumerate().map(compare).collect()
        });
        checked.push(Checked {
            target: device.target,
            problem: problem.name.clone(),
            schedule,
            outcome: outcome.map_err(|error| match device.take_fault() {
                Some(fault) => fault.to_string(),
                None => format!("{error:#}"),
            }),
        });
    }
    Ok(checked)
}

/// The kernel of the `pass`-th pass among those that ran.
fn kernel_of(pass: usize, launched: &[String]) -> Option<String> {
    let part = match pass {
        0 | 1 => "_forward",
        2 => "_backward_query",
        _ => "_backward_key",
    };
    launched.iter().find(|name| name.contains(part)).cloned()
}

fn bits(values: &[f64]) -> Vec<u64> {
    values.iter().map(|value| value.to_bits()).collect()
}

/// What the kernels give.
fn run(device: &Device, problem: &Problem, schedule: Schedule) -> Result<Outputs> {
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
            engine: Engine::Auto,
            block_map: None,
        };
        if let Some(shape) = code.blocks {
            let (floats, integers) = (uploaded.floats.as_ref(), uploaded.integers.as_ref());
            let map = block_map(client, &uploaded.modification, floats, integers, shape)?;
            uploaded.block_map = Some(map);
        }
        Ok(uploaded)
    }

    fn tensor(&self, tensor: &attention_core::oracle::Tensor4) -> TensorRef {
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

/// A row for each problem, with the worst of its schedules in every pass.
pub fn table(checked: &[Checked]) -> String {
    let mut text = String::from("| target | case | ");
    text.push_str(&PASSES.join(" | "));
    text.push_str(" | schedules | |\n|---|---|---|---|---|---|---|---|---|\n");
    let same = |a: &Checked, b: &Checked| (a.target, &a.problem) == (b.target, &b.problem);
    for of_problem in checked.chunk_by(same) {
        let first = &of_problem[0];
        let _ = write!(text, "| {} | {} |", first.target, first.problem);
        for pass in PASSES {
            let of_pass = of_problem.iter().filter_map(|checked| {
                let compared = checked.outcome.as_ref().ok()?;
                compared.iter().find(|compared| compared.pass == pass)
            });
            let worst = of_pass.max_by(|a, b| a.error.total_cmp(&b.error));
            let _ = match worst {
                Some(worst) => write!(text, " {:.1e} of {:.1e} |", worst.error, worst.bound),
                None => write!(text, " |"),
            };
        }
        let failed = of_problem.iter().filter(|checked| !checked.passes());
        let failed: Vec<String> = failed.map(failure).collect();
        let all = of_problem.len();
        let verdict = if failed.is_empty() { "ok" } else { "failed" };
        let _ = writeln!(text, " {} of {all} | {verdict} |", all - failed.len());
        for failure in failed {
            let _ = writeln!(
                text,
                "| | | | | | | | | {} |",
                failure.replace('|', "\\|").replace('\n', " ")
            );
        }
    }
    text
}

/// Why a problem failed in a schedule.
fn failure(checked: &Checked) -> String {
    let why = match &checked.outcome {
        Err(reason) => reason.clone(),
        Ok(compared) => {
            let failed = compared.iter().filter(|compared| !compared.passes());
            let words = failed.map(|compared| {
                if compared.error <= compared.bound {
                    format!("{} depends on the schedule", compared.pass)
                } else {
                    format!("{} is wrong by {:.1e}", compared.pass, compared.error)
                }
            });
            words.collect::<Vec<_>>().join(", ")
        }
    };
    format!("{}: {why}", checked.schedule)
}
