//! What may be asked of the matrix of probabilities.

use crate::{AttentionError, AttentionProblem};

impl AttentionProblem {
    /// Refuses rows beyond the last query.
    ///
    /// ```
    /// use attention_core::AttentionShapes;
    ///
    /// let shape = [1, 1, 5, 8];
    /// let shapes = AttentionShapes { query: shape, key: shape, value: shape, mask: None, bias: None };
    /// let refusal = shapes.validate()?.check_rows(&[0, 5]).unwrap_err();
    /// assert_eq!(refusal.to_string(), "`rows` is 5; accepted: positions below 5, the number of queries");
    /// # Ok::<(), attention_core::AttentionError>(())
    /// ```
    pub fn check_rows(&self, rows: &[usize]) -> Result<(), AttentionError> {
        match rows.iter().find(|&&row| row >= self.seq_q) {
            None => Ok(()),
            Some(row) => Err(AttentionError::Value {
                argument: "rows",
                given: row.to_string(),
                accepted: format!("positions below {}, the number of queries", self.seq_q),
            }),
        }
    }

    /// Refuses a grid of `[queries, keys]` that has no cell, or one without a position.
    pub fn check_grid(&self, grid: [usize; 2]) -> Result<(), AttentionError> {
        let most = [self.seq_q, self.seq_kv];
        if (0..2).all(|axis| (1..=most[axis]).contains(&grid[axis])) {
            return Ok(());
        }
        Err(AttentionError::Value {
            argument: "grid",
            given: format!("{grid:?}"),
            accepted: format!("[1, 1] to {most:?}, the numbers of queries and keys"),
        })
    }

    /// Refuses to list no key of a row, or more than there are.
    pub fn check_top_keys(&self, k: usize) -> Result<(), AttentionError> {
        if (1..=self.seq_kv).contains(&k) {
            return Ok(());
        }
        Err(AttentionError::Value {
            argument: "k",
            given: k.to_string(),
            accepted: format!("1 to {}, the number of keys", self.seq_kv),
        })
    }
}
