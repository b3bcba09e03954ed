//! The compile matrix as a program: `cargo xtask matrix` calls it.

use std::{
    collections::HashMap,
    fs,
    path::PathBuf,
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use anyhow::{Context, Result, ensure};
use attention_matrix::{
    cases::{self, Case},
    execute::{self, Checked, Device, Objects, Problem, Schedule},
    gpu::{self, Target},
    inspect::Tools,
    picture,
    run::{Plan, run},
    table::{self, Outcome, Row},
};
use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};

/// Lowers every kernel for every GPU without one, compiles it where the vendor's compiler is at
/// hand, and says what it needs.
#[derive(Parser)]
#[command(name = "attention-matrix")]
struct Cli {
    /// Execute attention on matrix instructions on this machine's processor, in every order of threads
    /// that must not matter, and compare it with the oracle
    #[arg(long)]
    execute: bool,
    /// Only targets whose name contains this: sm_90a, gfx, wgsl, spirv, msl
    #[arg(long)]
    target: Option<String>,
    /// Only kernels whose name contains this
    #[arg(long)]
    kernel: Option<String>,
    /// Only cases whose name contains this: measured/, code/alibi, maps/
    #[arg(long)]
    case: Option<String>,
    /// Write matrix.md, matrix.json and matrix.svg into this folder
    #[arg(long)]
    report: Option<PathBuf>,
    /// Keep what was lowered in this folder, in one for each target
    #[arg(long)]
    keep: Option<PathBuf>,
    /// Fail where a kernel needs more than in this matrix.json
    #[arg(long)]
    compare: Option<PathBuf>,
    /// A CUDA toolkit's folder: bin/ptxas and bin/nvdisasm
    #[arg(long)]
    cuda: Option<PathBuf>,
    /// A folder with llvm-readelf and llvm-objdump
    #[arg(long)]
    llvm: Option<PathBuf>,
    /// Khronos' validator of SPIR-V
    #[arg(long)]
    spirv_val: Option<PathBuf>,
}

fn main() -> ExitCode {
    match Cli::parse().run() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

impl Cli {
    fn run(&self) -> Result<ExitCode> {
        if self.execute {
            return self.run_executed();
        }
        let mut targets = gpu::all();
        targets.retain(|target| fits(target.name, &self.target));
        let mut cases = cases::all()?;
        cases.retain(|case| fits(&case.name, &self.case));
        let tools = Tools {
            cuda: self.cuda.clone(),
            llvm: self.llvm.clone(),
            spirv_val: self.spirv_val.clone(),
        };
        let plan = Plan {
            cases: &cases,
            kernel: self.kernel.as_deref(),
            tools: &tools,
            keep: self.keep.as_deref(),
        };
        let rows = compile(&plan, &targets)?;
        println!("{}\n{}", table::summary(&rows), table::reasons(&rows));
        if let Some(folder) = &self.report {
            let page = format!(
                "{}\n{}\n{}",
                table::summary(&rows),
                table::reasons(&rows),
                table::details(&rows)
            );
            fs::create_dir_all(folder)?;
            fs::write(folder.join("matrix.md"), page)?;
            fs::write(folder.join("matrix.json"), json(&rows)?)?;
            picture::draw(&rows, &folder.join("matrix.svg"))?;
        }
        let mut code = ExitCode::SUCCESS;
        if rows
            .iter()
            .any(|row| matches!(row.outcome, Outcome::Failed(_)))
        {
            code = ExitCode::FAILURE;
        }
        if let Some(file) = &self.compare {
            let before = fs::read_to_string(file).with_context(|| file.display().to_string())?;
            let mut before: Vec<Row> = serde_json::from_str(&before)?;
            before.retain(|row| {
                fits(&row.target, &self.target)
                    && fits(&row.case, &self.case)
                    && fits(&row.kernel, &self.kernel)
            });
            for sentence in table::regressions(&before, &rows) {
                println!("worse: {sentence}");
                code = ExitCode::FAILURE;
            }
        }
        Ok(code)
    }
}

impl Cli {
    fn run_executed(&self) -> Result<ExitCode> {
        let mut items = Vec::new();
        for target in execute::TARGETS {
            let first = target == execute::TARGETS[0];
            let mut problems = execute::matrix();
            if first {
                problems.extend(execute::in_terms());
                problems.extend(execute::register());
            }
            items.extend(problems.into_iter().map(|problem| (target, problem)));
        }
        items.retain(|(target, problem)| {
            fits(target, &self.target) && fits(&problem.name, &self.case)
        });
        ensure!(!items.is_empty(), "no case of these names is executed");
        let mut checked = executed(&items)?;
        if let Some(kernel) = &self.kernel {
            checked.iter_mut().for_each(|checked| checked.keep(kernel));
        }
        println!("{}", execute::table(&checked));
        let passed = checked.iter().all(Checked::passes);
        Ok(if passed {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        })
    }
}

fn fits(name: &str, part: &Option<String>) -> bool {
    part.as_ref()
        .is_none_or(|part| name.contains(part.as_str()))
}

/// A line for each row, so that a change shows as one.
fn json(rows: &[Row]) -> Result<String> {
    let rows: Vec<_> = rows
        .iter()
        .map(serde_json::to_string)
        .collect::<Result<_, _>>()?;
    Ok(format!("[\n{}\n]\n", rows.join(",\n")))
}

fn compile(plan: &Plan, targets: &[Target]) -> Result<Vec<Row>> {
    let bar = bar(plan.cases.len() * targets.len())?;
    let rows = on_every_core(
        targets,
        || (),
        |(), target| {
            let step = |case: &Case| {
                bar.set_message(format!("{} {}", target.name, case.name));
                bar.inc(1);
            };
            run(plan, target, step)
        },
    );
    bar.finish_and_clear();
    let rows: Result<Vec<_>> = rows.into_iter().collect();
    Ok(rows?.concat())
}

/// Every core has devices of its own.
fn executed(items: &[(&'static str, Problem)]) -> Result<Vec<Checked>> {
    let objects = Arc::new(Objects::new()?);
    let bar = bar(items.len())?;
    let checked = on_every_core(items, HashMap::new, |devices, (name, problem)| {
        bar.set_message(format!("{name} {}", problem.name));
        if !devices.contains_key(name) {
            let mut targets = gpu::all().into_iter();
            let target = targets.find(|target| target.name == *name);
            let target = target.with_context(|| format!("no target is called {name}"))?;
            devices.insert(*name, Device::new(target, objects.clone()));
        }
        let checked = execute::check(&devices[name], problem, &Schedule::ALL);
        bar.inc(1);
        checked
    });
    bar.finish_and_clear();
    let checked: Result<Vec<_>> = checked.into_iter().collect();
    Ok(checked?.concat())
}

fn bar(steps: usize) -> Result<ProgressBar> {
    let bar = ProgressBar::new(steps as u64);
    let style = "{elapsed_precise} {bar:30} {pos}/{len} cases  {wide_msg}";
    bar.set_style(ProgressStyle::with_template(style)?);
    Ok(bar)
}

/// Every core takes the next item; results are in the items' order.
fn on_every_core<T: Sync, S, R: Send>(
    items: &[T],
    start: impl Fn() -> S + Sync,
    step: impl Fn(&mut S, &T) -> R + Sync,
) -> Vec<R> {
    let next = AtomicUsize::new(0);
    let work = || {
        let mut state = start();
        let mut done = Vec::new();
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(item) = items.get(index) else {
                return done;
            };
            done.push((index, step(&mut state, item)));
        }
    };
    let cores = thread::available_parallelism().map_or(1, Into::into);
    let mut results = thread::scope(|scope| {
        let threads: Vec<_> = (0..cores).map(|_| scope.spawn(work)).collect();
        let joined = threads.into_iter().map(|thread| thread.join());
        let mut results = Vec::new();
        for result in joined {
            results.extend(result.unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        }
        results
    });
    results.sort_by_key(|(index, _)| *index);
    results.into_iter().map(|(_, result)| result).collect()
}
