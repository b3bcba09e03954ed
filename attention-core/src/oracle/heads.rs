//! Work shared out over the processor's cores, one head at a time.

use std::panic::resume_unwind;
use std::thread;

use crate::AttentionProblem;

/// Pairs of query and key for each thread: with fewer, starting it costs more than it saves.
const PAIRS_PER_THREAD: u64 = 1 << 14;

/// Runs a job for every batch element and query head, and returns what they gave in the order
/// `[batch, heads]`.
pub(super) fn for_each_head<T: Send>(
    problem: &AttentionProblem,
    job: impl Fn(usize, usize) -> T + Sync,
) -> Vec<T> {
    let heads: Vec<(usize, usize)> = (0..problem.batch)
        .flat_map(|batch| (0..problem.heads).map(move |head| (batch, head)))
        .collect();
    let run = |heads: &[(usize, usize)]| -> Vec<T> {
        heads
            .iter()
            .map(|&(batch, head)| job(batch, head))
            .collect()
    };
    let threads = threads_worth_starting(problem);
    if threads == 1 {
        return run(&heads);
    }
    thread::scope(|scope| {
        let running: Vec<_> = heads
            .chunks(heads.len().div_ceil(threads))
            .map(|share| scope.spawn(|| run(share)))
            .collect();
        running
            .into_iter()
            .flat_map(|thread| thread.join().unwrap_or_else(|panic| resume_unwind(panic)))
            .collect()
    })
}

fn threads_worth_starting(problem: &AttentionProblem) -> usize {
    let heads = (problem.batch * problem.heads) as u64;
    let worth = problem.visible_pairs(None).saturating_mul(heads) / PAIRS_PER_THREAD;
    let cores = thread::available_parallelism().map_or(1, usize::from);
    usize::try_from(worth).unwrap_or(cores).clamp(1, cores)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_come_in_the_order_of_batch_and_head_however_many_threads_run() {
        for seq in [1, 200] {
            let problem = AttentionProblem {
                batch: 3,
                heads: 5,
                kv_heads: 1,
                value_heads: 1,
                seq_q: seq,
                seq_kv: seq,
                head_dim: 1,
                value_dim: 1,
            };
            let given = for_each_head(&problem, |batch, head| 5 * batch + head);
            assert_eq!(given, (0..15).collect::<Vec<_>>());
        }
    }
}
