//! Medians of contenders that take turns, and what a device can do at best.

use std::time::{Duration, Instant};

use anyhow::Result;
use attention_core::DType;
use burn::tensor::{Distribution, Tensor};
use cubecl::{MemoryScope, client::Client};

use super::{
    shape::Scale,
    workload::{Workload, wait},
};
use crate::{cli::verify::burn_dtype, device::DeviceKind};

/// Each contender has this many turns in the time of a shape, or as many as [`FEWEST_ROUNDS`] where that is too short.
const ROUNDS: u32 = 6;
const FEWEST_ROUNDS: u32 = 3;
/// Where a round takes longer, it is the only one after the warm-up.
const LONG_ROUND: Duration = Duration::from_secs(20);

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

/// A contender's turn: runs back to back for as long as it is given, at least one, and the time of each.
pub type Turn<'a> = Box<dyn Fn(Duration) -> Result<Vec<Duration>> + 'a>;

/// The turns of what runs once and waits for its device.
pub fn repeat<'a>(run: impl Fn() -> Result<()> + 'a) -> Turn<'a> {
    Box::new(move |slot| {
        let clock = Instant::now();
        let mut times = vec![timed(&run)?];
        while clock.elapsed() < slot {
            times.push(timed(&run)?);
        }
        Ok(times)
    })
}

/// The turns of what is given to its device so many times for one wait: a run's time is its share of that.
pub fn queue<'a>(runs: u32, run: impl Fn(u32) -> Result<()> + 'a) -> Turn<'a> {
    let turn = repeat(move || run(runs));
    Box::new(move |slot| Ok(turn(slot)?.into_iter().map(|time| time / runs).collect()))
}

/// The median time of each contender. They take turns of equal length, so that whatever else the machine does meets
/// all of them, and whoever comes after another has time to fill the caches with its own.
///
/// # Errors
/// What a contender fails with.
pub fn measure(contenders: &[Turn], time: Duration) -> Result<Vec<Duration>> {
    let clock = Instant::now();
    for contender in contenders {
        contender(Duration::ZERO)?;
    }
    let fewest = if clock.elapsed() > LONG_ROUND {
        1
    } else {
        FEWEST_ROUNDS
    };
    let slot = time / (ROUNDS * contenders.len() as u32);
    let mut times = vec![Vec::new(); contenders.len()];
    let clock = Instant::now();
    let mut rounds = 0;
    while rounds < fewest || clock.elapsed() < time {
        for (contender, times) in contenders.iter().zip(&mut times) {
            times.extend(contender(slot)?);
        }
        rounds += 1;
    }
    Ok(times.into_iter().map(median).collect())
}

/// Floating-point operations a second of the device's square matrix product, as Burn runs it at its fastest.
pub fn product_rate(dtype: DType, kind: DeviceKind) -> Result<f64> {
    let device = kind.open()?;
    let side = Scale::of(kind).product_side();
    let random = || {
        let random = Tensor::<2>::random([side; 2], Distribution::Default, &device);
        random.cast(burn_dtype(dtype))
    };
    let (left, right) = (random(), random());
    let product = || left.clone().matmul(right.clone());
    Ok(rate(side, fastest(kind, product)?))
}

/// Operations a second of a product of so many rows and columns that takes so long.
pub fn rate(side: usize, product: Duration) -> f64 {
    2.0 * (side as f64).powi(3) / product.as_secs_f64()
}

/// What a roof is made of: the fastest turn of some after the first, each of as many runs as the device is given for
/// one wait.
fn fastest<const D: usize>(kind: DeviceKind, run: impl Fn() -> Tensor<D>) -> Result<Duration> {
    const TURNS: usize = 9;
    let device = kind.open()?;
    let runs = Scale::of(kind).runs_per_wait();
    let turn = || {
        let mut last = None;
        for _ in 0..runs {
            last = Some(run());
        }
        wait(&device)?;
        drop(last);
        Ok(())
    };
    turn()?;
    let times = (0..TURNS)
        .map(|_| timed(turn))
        .collect::<Result<Vec<_>>>()?;
    Ok(times.into_iter().min().unwrap_or_default() / runs)
}

/// Bytes a second between memory and processor or chip, what is read and what is written together: by all threads that
/// copy, where the device is the processor, else by the device that adds to a tensor.
pub fn bandwidth(kind: DeviceKind) -> Result<f64> {
    if kind.is_software() {
        return Ok(host_bandwidth(std::thread::available_parallelism()?.get()));
    }
    const NUMBERS: usize = 1 << 26;
    let device = kind.open()?;
    let tensor = Tensor::<1>::ones([NUMBERS], &device);
    let sum = || tensor.clone().add_scalar(1.0);
    Ok((2 * 4 * NUMBERS) as f64 / fastest(kind, sum)?.as_secs_f64())
}

fn host_bandwidth(threads: usize) -> f64 {
    /// Of each thread: far more than caches hold.
    const BYTES: usize = 1 << 28;
    let mut buffers: Vec<_> = (0..threads)
        .map(|_| (vec![1u8; BYTES], vec![0u8; BYTES]))
        .collect();
    let times = (0..9).map(|_| {
        let clock = Instant::now();
        std::thread::scope(|scope| {
            for (from, to) in &mut buffers {
                scope.spawn(|| to.copy_from_slice(from));
            }
        });
        clock.elapsed()
    });
    let time = times.min().unwrap_or_default();
    (2 * threads * BYTES) as f64 / time.as_secs_f64()
}

fn timed(run: impl FnOnce() -> Result<()>) -> Result<Duration> {
    let clock = Instant::now();
    run()?;
    Ok(clock.elapsed())
}

/// The middle one; of an even number, the later of the two.
fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}
