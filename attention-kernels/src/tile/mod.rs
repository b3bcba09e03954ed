//! The one thing that differs per hardware: how a tile of rows is held and multiplied.

mod cmma;
mod mma;
mod register;
mod spread;

pub(crate) use cmma::{
    FragmentSums, PlaneTile, RowOperands, Scratch, Tokens, leads_row, run_highest, run_total,
};
pub(crate) use mma::{
    Arrival, F32_TERMS, Reads, Rows, Staged, Sums, Together, Tracks, as_laid_out, attention_terms,
    has_row_products, matrix_accumulate, matrix_products, row_bytes, row_highest, row_products,
    row_total, scale_sums, set_aside, staged_bytes, store_sums, sync_tokens, writes_row,
};
pub(crate) use register::{
    Aside, Layout, LayoutLaunch, RowTile, Stream, accumulate, block_products, chunk_chain, filled,
    load_rows, packed, store_rows,
};
pub use spread::Spread;
pub(crate) use spread::{
    first_chunk, group_offset, group_row, lane_start, slot_offset, slot_token, slots_start,
    sum_columns,
};
