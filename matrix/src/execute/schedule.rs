//! In which order the threads of a block run between two meetings.

use std::fmt;

/// An order that a program must not depend on. Each lets a warp run as far as it can before another
/// gets a turn: what one warp reads without a barrier is then either not yet written by the other, or
/// already overwritten.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Schedule {
    /// Blocks, warps and lanes in order.
    FirstFirst,
    /// Blocks, warps and lanes from the last on.
    LastFirst,
    /// Blocks, warps and lanes shuffled, and shuffled anew at every turn.
    Random(u64),
}

impl Schedule {
    /// The orders that every kernel is executed in.
    pub const ALL: [Self; 3] = [Self::FirstFirst, Self::LastFirst, Self::Random(1)];
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::FirstFirst => f.write_str("first first"),
            Self::LastFirst => f.write_str("last first"),
            Self::Random(seed) => write!(f, "random {seed}"),
        }
    }
}

/// A schedule at work.
pub(super) struct Order {
    schedule: Schedule,
    state: u64,
}

impl Order {
    pub fn new(schedule: Schedule) -> Self {
        let state = match schedule {
            Schedule::FirstFirst | Schedule::LastFirst => 0,
            Schedule::Random(seed) => seed,
        };
        Self { schedule, state }
    }

    /// `items`, which are sorted, in the order of their turns.
    pub fn arrange<T>(&mut self, items: &mut [T]) {
        match self.schedule {
            Schedule::FirstFirst => {}
            Schedule::LastFirst => items.reverse(),
            Schedule::Random(_) => {
                for last in (1..items.len()).rev() {
                    items.swap(last, self.below(last + 1));
                }
            }
        }
    }

    /// Whose turn it is of `ready`, which is sorted and not empty.
    pub fn choose(&mut self, ready: &[usize]) -> usize {
        match self.schedule {
            Schedule::FirstFirst => ready[0],
            Schedule::LastFirst => ready[ready.len() - 1],
            Schedule::Random(_) => ready[self.below(ready.len())],
        }
    }

    fn below(&mut self, limit: usize) -> usize {
        // SplitMix64
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % limit as u64) as usize
    }
}
