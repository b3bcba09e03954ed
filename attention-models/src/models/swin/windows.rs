//! Which windows the tokens of a grid fall into.

use burn::tensor::Device;

use crate::ops::{AttentionOptions, BLOCK_STEP, BlockMap, BlockShape, MaskMod, variants};

/// From so many blocks of tokens on, a block map is worth its making.
const MAPPED_BLOCKS: usize = 4;

/// A grid `[rows, columns]` cut into square windows.
#[derive(Debug, Clone)]
pub(super) struct Windows {
    pub grid: [usize; 2],
    pub window: usize,
    /// Rows and columns of the first windows, where they are narrower; else 0.
    pub shift: usize,
    shown: Shown,
}

/// How attention is told of windows.
#[derive(Debug, Clone)]
#[expect(clippy::large_enum_variant, reason = "one exists in a stage")]
enum Shown {
    /// One window holds the grid.
    All,
    Mask(MaskMod),
    Map(BlockMap),
}

impl Windows {
    pub fn new(grid: [usize; 2], window: usize, shift: usize, device: &Device) -> Self {
        let [rows, columns] = grid;
        let mask = || variants::grid_window(columns as u32, window as u32, shift as u32);
        let shown = if rows.max(columns) <= window && shift == 0 {
            Shown::All
        } else if rows * columns < MAPPED_BLOCKS * BLOCK_STEP {
            Shown::Mask(mask())
        } else {
            let shape = BlockShape::new(rows * columns, rows * columns);
            Shown::Map(BlockMap::new(mask(), shape, device))
        };
        Self {
            grid,
            window,
            shift,
            shown,
        }
    }

    /// The options under which a query sees its window.
    pub fn options(&self) -> AttentionOptions {
        let options = AttentionOptions::default();
        match &self.shown {
            Shown::All => options,
            Shown::Mask(mask) => options.with_mask_mod(mask.clone()),
            Shown::Map(map) => options.with_block_map(map.clone()),
        }
    }

    /// The tokens of each window of `window` by `window`, in the order of a grid that was rolled
    /// back by the shift: the last windows of a row hold its end, then its beginning.
    pub fn tokens(&self) -> Vec<Vec<usize>> {
        let [rows, columns] = self.grid;
        let places = |length: usize, window: usize| {
            let first = window * self.window;
            (first..first + self.window).map(move |at| (at + self.shift) % length)
        };
        let mut windows = Vec::new();
        for down in 0..rows / self.window {
            for across in 0..columns / self.window {
                let row = |y: usize| places(columns, across).map(move |x| y * columns + x);
                windows.push(places(rows, down).flat_map(row).collect());
            }
        }
        windows
    }
}
