//! The sizes of a block map.

use attention_core::{AttentionError, AttentionProblem};

/// Blocks have a multiple of this many tokens.
pub const BLOCK_STEP: usize = 64;

/// What a block map is made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockShape {
    /// The batch of the attention, or 1 for lists that all batch elements share.
    pub batch: usize,
    /// The query heads of the attention, or 1 for lists that all heads share.
    pub heads: usize,
    /// Queries.
    pub seq_q: usize,
    /// Keys.
    pub seq_kv: usize,
    /// Queries of a block: a multiple of [`BLOCK_STEP`].
    pub block_q: usize,
    /// Keys of a block: a multiple of [`BLOCK_STEP`].
    pub block_kv: usize,
}

impl BlockShape {
    /// One map for all batch elements and heads, with the smallest blocks.
    pub fn new(seq_q: usize, seq_kv: usize) -> Self {
        Self {
            batch: 1,
            heads: 1,
            seq_q,
            seq_kv,
            block_q: BLOCK_STEP,
            block_kv: BLOCK_STEP,
        }
    }

    /// With lists for each batch element; 1 for lists that all share.
    pub fn with_batch(mut self, batch: usize) -> Self {
        self.batch = batch;
        self
    }

    /// With lists for each query head; 1 for lists that all share.
    pub fn with_heads(mut self, heads: usize) -> Self {
        self.heads = heads;
        self
    }

    /// With blocks of so many queries and keys.
    pub fn with_blocks(mut self, queries: usize, keys: usize) -> Self {
        (self.block_q, self.block_kv) = (queries, keys);
        self
    }

    /// Blocks of queries.
    pub fn q_blocks(&self) -> usize {
        self.seq_q.div_ceil(self.block_q)
    }

    /// Blocks of keys.
    pub fn kv_blocks(&self) -> usize {
        self.seq_kv.div_ceil(self.block_kv)
    }

    /// Tiles of all lists.
    pub fn tiles(&self) -> usize {
        self.batch * self.heads * self.q_blocks() * self.kv_blocks()
    }

    /// Integers of [`BlockMap::rows`](super::BlockMap::rows).
    pub fn rows_len(&self) -> usize {
        self.tiles() + self.batch * self.heads * self.q_blocks()
    }

    /// Integers of [`BlockMap::columns`](super::BlockMap::columns).
    pub fn columns_len(&self) -> usize {
        self.tiles() + self.batch * self.heads * self.kv_blocks()
    }

    /// Refuses sizes that no map has.
    ///
    /// # Errors
    /// [`AttentionError::Value`]: no batch element, head, query or key; a block that is no multiple
    /// of [`BLOCK_STEP`].
    pub fn validate(&self) -> Result<(), AttentionError> {
        let refuse = |argument, given: usize, accepted: String| {
            Err(AttentionError::Value {
                argument,
                given: given.to_string(),
                accepted,
            })
        };
        for (argument, given) in [
            ("shape.batch", self.batch),
            ("shape.heads", self.heads),
            ("shape.seq_q", self.seq_q),
            ("shape.seq_kv", self.seq_kv),
        ] {
            if given == 0 {
                return refuse(argument, given, "at least 1".into());
            }
        }
        for (argument, given) in [
            ("shape.block_q", self.block_q),
            ("shape.block_kv", self.block_kv),
        ] {
            if given == 0 || !given.is_multiple_of(BLOCK_STEP) {
                return refuse(argument, given, format!("a multiple of {BLOCK_STEP}"));
            }
        }
        Ok(())
    }

    /// Refuses a map that was made for another attention than `problem`.
    ///
    /// # Errors
    /// [`AttentionError::Shape`]
    pub fn check_fits(&self, problem: &AttentionProblem) -> Result<(), AttentionError> {
        let &AttentionProblem {
            batch,
            heads,
            seq_q,
            seq_kv,
            ..
        } = problem;
        let fits = [1, batch].contains(&self.batch)
            && [1, heads].contains(&self.heads)
            && [self.seq_q, self.seq_kv] == [seq_q, seq_kv];
        if fits {
            return Ok(());
        }
        Err(AttentionError::Shape {
            argument: "block_map",
            given: vec![self.batch, self.heads, self.seq_q, self.seq_kv],
            accepted: format!("[{batch} or 1, {heads} or 1, {seq_q}, {seq_kv}], as the attention"),
        })
    }
}
