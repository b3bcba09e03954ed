//! Problems on the emulated device, in every schedule, compared with the oracle.

use anyhow::Result;

use super::{
    device::Device,
    problem::{Outputs, PASSES, Problem},
    schedule::Schedule,
    unfused::{bound, distance, unfused},
    upload::run,
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
