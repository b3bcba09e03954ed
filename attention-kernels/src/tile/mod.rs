//! The one thing that differs per hardware: how a tile of rows is held and multiplied.

mod register;

pub(crate) use register::{
    CHUNK_CHAIN, Layout, LayoutLaunch, RowTile, Stream, accumulate, block_products, filled,
    load_rows, packed, store_rows,
};
