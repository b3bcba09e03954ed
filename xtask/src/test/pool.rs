//! As many groups of tests at a time as the machine has cores.
//!
//! Most of a test's time is one thread of its device's, which compiles kernels one after the other: two tests in
//! one process wait for each other, two processes do not.

use std::{
    num::NonZero,
    sync::Mutex,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use indicatif::{ProgressBar, ProgressStyle};

use super::{Environment, group::Group};

/// Runs every group to its end and shows what each said; whether all passed.
pub fn run(environment: &Environment, groups: Vec<Group>) -> Result<bool> {
    let style = "{bar:24} {pos} of {len} groups of tests, {elapsed}: {msg}";
    let bar =
        ProgressBar::new(groups.len() as u64).with_style(ProgressStyle::with_template(style)?);
    bar.enable_steady_tick(Duration::from_secs(1));
    let waiting = Mutex::new(groups.into_iter());
    let failed = Mutex::new(Vec::new());
    let work = || -> Result<()> {
        loop {
            let group = waiting.lock().expect("no worker panics").next();
            let Some(group) = group else {
                return Ok(());
            };
            bar.set_message(group.name.clone());
            if !passes(environment, &group, &bar)? {
                failed.lock().expect("no worker panics").push(group.name);
            }
            bar.inc(1);
        }
    };
    let workers = thread::available_parallelism().map_or(1, NonZero::get);
    thread::scope(|scope| {
        let workers: Vec<_> = (0..workers).map(|_| scope.spawn(work)).collect();
        let mut ends = workers.into_iter().map(|worker| worker.join());
        ends.try_for_each(|end| end.expect("no worker panics"))
    })?;
    bar.finish_and_clear();
    let failed = failed.into_inner().expect("no worker panics");
    for name in &failed {
        println!("FAILED: {name}");
    }
    Ok(failed.is_empty())
}

fn passes(environment: &Environment, group: &Group, bar: &ProgressBar) -> Result<bool> {
    let start = Instant::now();
    let mut command = environment.launch(&group.program);
    command
        .current_dir(&group.folder)
        .env("RUST_TEST_THREADS", "1")
        .arg("--exact")
        .args(&group.tests);
    let output = command
        .output()
        .with_context(|| format!("cannot start the tests of {}", group.name))?;
    let seconds = start.elapsed().as_secs_f32();
    bar.suspend(|| {
        println!("{} ({seconds:.1} s)", group.name);
        print!("{}", String::from_utf8_lossy(&output.stdout));
        eprint!("{}", String::from_utf8_lossy(&output.stderr));
    });
    Ok(output.status.success())
}
