//! Learned tables: on the host, at launch, and inside a kernel.

use attention_core::AttentionError;
use cubecl::prelude::*;

use super::{CapturedData, Lanes};

/// A learned table, which a [lookup](super::ScoreMod::lookup) adds entries of and which receives a
/// gradient.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Table<F> {
    /// `slots` entries that all heads share, or for each query head its own.
    pub entries: F,
    /// Entries of a head.
    pub slots: u32,
}

impl Table<u32> {
    /// Refuses a number of entries that fits neither all heads alike nor each of the `heads`.
    ///
    /// # Errors
    /// [`AttentionError::Shape`]
    pub fn validate(&self, heads: usize) -> Result<(), AttentionError> {
        let (entries, slots) = (self.entries as usize, self.slots as usize);
        if slots > 0 && (entries == slots || entries == heads * slots) {
            return Ok(());
        }
        Err(AttentionError::Shape {
            argument: "score_mod",
            given: vec![entries],
            accepted: format!(
                "a table of {slots} slots, at least 1, or of {} for {heads} heads",
                heads * slots
            ),
        })
    }
}

/// Where a table lies among the tables, which share a buffer.
#[derive(CubeType, CubeLaunch, Clone, Copy)]
#[expand(derive(Clone))]
pub(crate) struct TableSpan {
    start: u32,
    /// From a head to the next: 0 where all share the table.
    of_head: u32,
    last_slot: u32,
}

/// The entries of a table for each lane.
#[cube]
pub(crate) fn table_entries(
    data: &CapturedData,
    #[comptime] index: usize,
    head: u32,
    slots: Vector<u32, Lanes>,
) -> Vector<f32, Lanes> {
    let lanes = Lanes::value();
    let span = data.table_spans.index(index);
    let tables = data.tables.clone().unwrap();
    let first = span.start + head * span.of_head;
    let slots = existing_slots(data, index, slots);
    let entry = tables[(first + slots.extract(0usize)) as usize];
    let mut entries = Vector::<f32, Lanes>::new(entry);
    #[unroll]
    for lane in 1..lanes {
        entries.insert(lane, tables[(first + slots.extract(lane)) as usize]);
    }
    entries
}

/// Beyond its end, the last slot of a table.
#[cube]
pub(crate) fn existing_slots(
    data: &CapturedData,
    #[comptime] index: usize,
    slots: Vector<u32, Lanes>,
) -> Vector<u32, Lanes> {
    let span = data.table_spans.index(index);
    min(slots, Vector::new(span.last_slot))
}

/// The spans of tables that lie one after the other.
pub(super) fn table_spans(tables: &[Table<u32>]) -> SequenceArg<TableSpan> {
    let mut start = 0;
    tables
        .iter()
        .map(|table| {
            let of_head = if table.entries > table.slots {
                table.slots
            } else {
                0
            };
            let span = TableSpanLaunch::new(start, of_head, table.slots.saturating_sub(1));
            start += table.entries;
            span
        })
        .collect()
}
