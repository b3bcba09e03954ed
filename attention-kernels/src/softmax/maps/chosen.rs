//! Which queries are shown, and in which blocks a walk meets them.

use cubecl::{client::Client, prelude::*};

use super::super::plan::Plan;

/// Chosen queries as runs of neighbours, none longer than a block.
pub(super) struct Chosen {
    /// How many queries.
    pub count: usize,
    /// The first query and the length of each run.
    runs: Vec<[u32; 2]>,
}

impl Chosen {
    /// Splits the positions, and makes the plan's block as short as they need.
    ///
    /// A run costs a whole block, so that single queries are met one at a time.
    pub fn new(positions: &[usize], plan: &mut Plan) -> Self {
        let count = positions.len();
        let whole = runs(positions, plan.tile.block);
        if whole.len() * plan.tile.block <= 2 * count {
            return Self { count, runs: whole };
        }
        plan.tile.tokens = 1;
        plan.tile.block = 1;
        Self {
            count,
            runs: runs(positions, 1),
        }
    }

    /// How many runs.
    pub fn runs(&self) -> usize {
        self.runs.len()
    }

    /// The runs on the device: first query and length, one after the other.
    pub fn upload(&self, client: &Client) -> BufferArg {
        let handle = client.create_from_slice(u32::as_bytes(self.runs.as_flattened()));
        // SAFETY: the buffer holds two numbers for each run.
        unsafe { BufferArg::from_raw_parts(handle, 2 * self.runs.len()) }
    }
}

fn runs(positions: &[usize], longest: usize) -> Vec<[u32; 2]> {
    positions
        .chunk_by(|a, b| a + 1 == *b)
        .flat_map(|neighbours| neighbours.chunks(longest))
        .map(|run| [run[0] as u32, run.len() as u32])
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_are_met_together_and_none_is_left_out() {
        let found = runs(&[3, 4, 5, 6, 7, 2, 9, 9], 4);
        assert_eq!(found, [[3, 4], [7, 1], [2, 1], [9, 1], [9, 1]]);
        assert!(runs(&[], 4).is_empty());
    }
}
