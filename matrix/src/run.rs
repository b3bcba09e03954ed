//! The matrix: cases by targets.

use std::{
    collections::{BTreeMap, HashSet},
    fs,
    path::Path,
};

use anyhow::{Context, Result};
use cubecl_server::{id::KernelId, kernel::CubeKernel};

use crate::{
    capture::Capture,
    cases::Case,
    gpu::Target,
    inspect::{Tools, inspect},
    lower::lower,
    table::{Counts, Outcome, Row},
};

/// What is compiled, and with what.
pub struct Plan<'a> {
    /// The cases.
    pub cases: &'a [Case],
    /// Part of a kernel's name.
    pub kernel: Option<&'a str>,
    /// The vendors' programs.
    pub tools: &'a Tools,
    /// Where what was lowered is kept, a folder for each target.
    pub keep: Option<&'a Path>,
}

/// Compiles every kernel of the plan once for a target; `done` is told of each case that is through.
///
/// # Errors
/// A folder that cannot be written.
pub fn run(plan: &Plan, target: &Target, done: impl Fn(&Case)) -> Result<Vec<Row>> {
    let device = Capture::new(target.name, target.properties.clone(), (target.matrix)());
    let mut seen = HashSet::<KernelId>::new();
    let mut rows = Vec::new();
    for case in plan.cases {
        if case.is_for(&device.client) {
            let launched = case.launch(&device.client);
            let kernels = device.take().map_err(|error| error.to_string());
            if let Err(error) = launched {
                rows.push(row(target, case, "-", Outcome::Refused(error.to_string())));
            }
            if let Err(reason) = &kernels {
                rows.push(row(target, case, "-", Outcome::Failed(reason.clone())));
            }
            let mut launches = BTreeMap::<String, usize>::new();
            for kernel in kernels.unwrap_or_default() {
                let name = short_name(kernel.name());
                let launch = launches.entry(name.clone()).or_default();
                *launch += 1;
                let name = match *launch {
                    1 => name,
                    launch => format!("{name}#{launch}"),
                };
                let wanted = plan.kernel.is_none_or(|part| name.contains(part));
                if wanted && seen.insert(kernel.id()) {
                    rows.push(compile(plan, target, case, &*kernel, &name)?);
                }
            }
        }
        done(case);
    }
    Ok(rows)
}

fn compile(
    plan: &Plan,
    target: &Target,
    case: &Case,
    kernel: &dyn CubeKernel,
    name: &str,
) -> Result<Row> {
    let lowered = match lower(kernel, target) {
        Ok(lowered) => lowered,
        Err(error) => return Ok(row(target, case, name, not_lowered(&error.to_string()))),
    };
    if let Some(folder) = plan.keep {
        let folder = folder.join(target.name);
        fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
        let file = format!(
            "{}.{name}.{}",
            case.name.replace('/', "."),
            lowered.extension
        );
        let file = folder.join(file);
        fs::write(&file, &lowered.code).with_context(|| file.display().to_string())?;
    }
    let (outcome, counts) = inspect(&lowered, target, plan.tools);
    Ok(Row {
        counts,
        ..row(target, case, name, outcome)
    })
}

fn row(target: &Target, case: &Case, kernel: &str, outcome: Outcome) -> Row {
    Row {
        target: target.name.into(),
        case: case.name.clone(),
        kernel: kernel.into(),
        outcome,
        counts: Counts::default(),
    }
}

/// PTX needs NVIDIA's library for some functions, such as the logarithm.
fn not_lowered(said: &str) -> Outcome {
    if said.contains("libdevice.10.bc was not found") {
        return Outcome::Untried("no libdevice was found: `CUDA_PATH`".into());
    }
    Outcome::Failed(said.into())
}

/// `a::b::attention_forward::AttentionForward<f32, ..>` is `attention_forward`.
pub(crate) fn short_name(type_name: &str) -> String {
    let path = type_name.split('<').next().unwrap_or(type_name);
    let mut segments = path.rsplit("::");
    let last = segments.next().unwrap_or(path);
    segments.next().unwrap_or(last).into()
}
