//! What a device's vector units do at best.

use std::time::{Duration, Instant};

use cubecl::{client::Client, future::block_on, prelude::*};

use crate::softmax::Plan;

/// Sums of a lane that do not wait for each other: more than any device begins before the first is done.
const CHAINS: usize = 12;
/// Of each sum in a turn of the loop, whose own work is then lost among them.
const STEPS: usize = 16;
/// Far more than any device runs at a time.
const CUBES: u32 = 4096;
/// Measured for at least as long, and so often: the fastest run is what nothing disturbed.
const LONG_ENOUGH: Duration = Duration::from_millis(20);
const RUNS: usize = 15;

/// Operations a second of fused multiplications and additions of `f32` in registers, each counted as two. `None` where
/// the device fails.
pub fn vector_rate(client: &Client) -> Option<f64> {
    timed(client, CUBES, 1)?;
    let mut turns = 1;
    loop {
        let (time, numbers) = timed(client, CUBES, turns)?;
        if time >= LONG_ENOUGH {
            let runs = (0..RUNS).map(|_| timed(client, CUBES, turns).map(|(time, _)| time));
            let time = runs.collect::<Option<Vec<_>>>()?.into_iter().min()?;
            let operations = 2.0 * (numbers * CHAINS * STEPS) as f64 * f64::from(turns);
            return Some(operations / time.as_secs_f64());
        }
        turns *= 2;
    }
}

/// The time of the smallest kernel, from its launch to the end of the wait for it: the middle one of many. `None` where
/// the device fails.
pub fn launch_time(client: &Client) -> Option<Duration> {
    const LAUNCHES: usize = 101;
    timed(client, 1, 1)?;
    let times = (0..LAUNCHES).map(|_| timed(client, 1, 1).map(|(time, _)| time));
    let mut times: Vec<_> = times.collect::<Option<_>>()?;
    times.sort();
    Some(times[LAUNCHES / 2])
}

/// How long so many cubes take for so many turns, and how many numbers they have.
fn timed(client: &Client, cubes: u32, turns: u32) -> Option<(Duration, usize)> {
    let (units, lanes) = Plan::units_and_lanes(client.properties());
    let vectors = cubes as usize * units as usize;
    let out = client.empty(vectors * lanes * size_of::<f32>());
    let clock = Instant::now();
    // SAFETY: every unit writes the one vector of the buffer that has its position.
    unsafe {
        fused_chains::launch_unchecked(
            client,
            CubeCount::new_1d(cubes),
            CubeDim::new_1d(units),
            lanes,
            BufferArg::from_raw_parts(out, vectors),
            turns,
        );
    }
    block_on(client.sync()).ok()?;
    Some((clock.elapsed(), vectors * lanes))
}

#[cube(launch_unchecked)]
fn fused_chains<N: Size>(out: &mut [Vector<f32, N>], turns: u32) {
    let start = f32::cast_from(ABSOLUTE_POS);
    let mut sums = Array::<Vector<f32, N>>::new(CHAINS);
    #[unroll]
    for chain in 0..CHAINS {
        sums[chain] = Vector::new(start + f32::cast_from(chain));
    }
    // Nothing that a compiler can compute ahead, and nothing that overflows.
    let factor = Vector::new(1.0f32 / (f32::cast_from(turns) + 2.0f32));
    for _ in 0..turns {
        #[unroll]
        for step in 0..STEPS * CHAINS {
            let chain = comptime!(step % CHAINS);
            sums[chain] = fma(sums[chain], factor, factor);
        }
    }
    let mut total = sums[0];
    #[unroll]
    for chain in 1..CHAINS {
        total += sums[chain];
    }
    out[ABSOLUTE_POS] = total;
}

#[cfg(all(test, feature = "cpu"))]
mod tests {
    use cubecl::Device;

    use super::*;

    #[test]
    fn a_processor_multiplies_more_than_a_thousand_million_times_a_second() {
        let client = Device::cpu().expect("the feature is on").client();
        let rate = vector_rate(&client).expect("the processor runs it");
        assert!(rate > 2e9 && rate < 1e13, "{rate:e}");
    }
}
