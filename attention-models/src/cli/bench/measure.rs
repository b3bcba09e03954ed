//! Medians of interleaved runs, and what a device can do at best.

use std::time::{Duration, Instant};

use anyhow::Result;
use attention_core::DType;
use burn::tensor::{Device, Distribution, Tensor};
use cubecl::{MemoryScope, client::Client};

use super::workload::{Workload, wait};
use crate::cli::verify::burn_dtype;

/// A contender runs at least this often after its warm-up.
const FEWEST_RUNS: usize = 3;
const MOST_RUNS: usize = 50;

/// Medians.
#[derive(Debug, Clone, Copy)]
pub struct Timings {
    /// This project's attention.
    pub ours: Duration,
    /// Burn's on the same device, where it runs there.
    pub burn: Option<Duration>,
    /// Burn's on flex.
    pub flex: Duration,
    /// cubek's unit kernel on the same device, where it has the pass.
    pub cubek: Option<Duration>,
}

/// The time to the first result, compilation of attention's kernels included, and the bytes that the device's pools hold
/// afterwards.
pub fn first_run(workload: &Workload, client: &Client) -> Result<(Duration, u64)> {
    workload.warm_up_loss()?;
    client
        .memory_cleanup()
        .map_err(|error| anyhow::anyhow!("{error}"))?;
    let clock = Instant::now();
    workload.run()?;
    let first = clock.elapsed();
    let reserved = client
        .memory_report(MemoryScope::Device)
        .usage()
        .bytes_reserved;
    Ok((first, reserved))
}

/// Whoever takes part: it runs once and waits for its device.
pub type Run<'a> = Box<dyn Fn() -> Result<()> + 'a>;

/// The median time of each contender. They take turns, so that whatever else the machine does
/// meets all of them.
///
/// # Errors
/// What a contender fails with.
pub fn measure(contenders: &[Run], time: Duration) -> Result<Vec<Duration>> {
    for contender in contenders {
        contender()?;
    }
    let clock = Instant::now();
    let mut times = vec![Vec::new(); contenders.len()];
    let goes_on = |runs: usize| runs < FEWEST_RUNS || (runs < MOST_RUNS && clock.elapsed() < time);
    while goes_on(times[0].len()) {
        for (contender, times) in contenders.iter().zip(&mut times) {
            times.push(timed(contender)?);
        }
    }
    Ok(times.into_iter().map(median).collect())
}

/// Floating-point operations a second of the device's matrix product, 1024 x 1024 x 1024, as Burn
/// runs it.
pub fn product_rate(dtype: DType, device: &Device) -> Result<f64> {
    const SIDE: usize = 1024;
    let random =
        || Tensor::<2>::random([SIDE, SIDE], Distribution::Default, device).cast(burn_dtype(dtype));
    let (left, right) = (random(), random());
    let run = || {
        let product = left.clone().matmul(right.clone());
        wait(device)?;
        drop(product);
        Ok(())
    };
    run()?;
    let times = (0..5).map(|_| timed(run)).collect::<Result<_>>()?;
    Ok(2.0 * (SIDE as f64).powi(3) / median(times).as_secs_f64())
}

fn timed(run: impl FnOnce() -> Result<()>) -> Result<Duration> {
    let clock = Instant::now();
    run()?;
    Ok(clock.elapsed())
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}
