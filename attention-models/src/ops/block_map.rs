//! Block maps on Burn tensors.

use std::fmt;

use attention_core::{AttentionError, AttentionProblem};
use attention_kernels::block_map::BlockShape;
use burn::tensor::{Device, Int, Tensor};

use super::{MaskMod, accept, backend, check::check_device, modification::check_mask};

/// What a mask leaves of a tile of the score matrix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tile {
    /// No query sees a key: the tile is skipped.
    Empty,
    /// Some queries see some keys: every element is tested.
    Partial,
    /// Every query sees every key: nothing is tested.
    Full,
}

/// A mask as code, and which tiles of the score matrix it leaves anything of: attention with it
/// takes time in proportion to them.
///
/// It is made once, on the device, and serves every layer and every step with the same lengths; a
/// clone copies nothing. Where `shape` has a batch or heads of 1, the lists are made from the mask of
/// batch element 0 or head 0 and shared: give the attention's own numbers where the mask depends on
/// them. [`attention_kernels::block_map`] describes the format.
///
/// ```
/// use attention_models::ops::{AttentionOptions, BlockMap, BlockShape, attention, variants};
/// use burn::tensor::{Device, Tensor};
///
/// let device = Device::flex();
/// // A window of 64 tokens, causal, on 512.
/// let window = variants::sliding_window(63, 0, 0);
/// let map = BlockMap::new(window, BlockShape::new(512, 512), &device);
/// assert_eq!(map.to_string(), "\
/// ◪·······
/// ◪◪······
/// ·◪◪·····
/// ··◪◪····
/// ···◪◪···
/// ····◪◪··
/// ·····◪◪·
/// ······◪◪
/// ");
/// assert!((map.sparsity() - 49.0 / 64.0).abs() < 1e-12);
///
/// let x = Tensor::<4>::ones([1, 2, 512, 16], &device);
/// let options = AttentionOptions::default().with_block_map(map);
/// assert_eq!(attention(x.clone(), x.clone(), x, options).dims(), [1, 2, 512, 16]);
/// ```
#[derive(Debug, Clone)]
pub struct BlockMap {
    /// The mask.
    pub mask: MaskMod,
    pub(super) shape: BlockShape,
    pub(super) rows: Tensor<1, Int>,
    pub(super) columns: Tensor<1, Int>,
}

impl BlockMap {
    /// The map of `mask` for attention of this shape.
    ///
    /// # Panics
    /// With the message of the error that [`BlockMap::try_new`] returns.
    pub fn new(mask: MaskMod, shape: BlockShape, device: &Device) -> Self {
        accept(Self::try_new(mask, shape, device))
    }

    /// [`BlockMap::new`], refusing bad input with a typed error.
    ///
    /// # Errors
    /// - [`AttentionError::Value`]: sizes of 0, a block that is no multiple of
    ///   [`BLOCK_STEP`](super::BLOCK_STEP), a device that has no kernels, a function that reads what it
    ///   did not capture
    /// - [`AttentionError::Device`], [`AttentionError::Shape`]: what the mask captured lies on another
    ///   device, or is empty
    ///
    /// ```
    /// use attention_models::ops::{BlockMap, BlockShape, variants};
    /// use burn::tensor::Device;
    ///
    /// let shape = BlockShape::new(512, 512).with_blocks(100, 64);
    /// let refusal = BlockMap::try_new(variants::causal(0), shape, &Device::flex());
    /// assert_eq!(
    ///     refusal.unwrap_err().to_string(),
    ///     "`shape.block_q` is 100; accepted: a multiple of 64",
    /// );
    /// ```
    pub fn try_new(
        mask: MaskMod,
        shape: BlockShape,
        device: &Device,
    ) -> Result<Self, AttentionError> {
        shape.validate()?;
        if !backend::has_kernels(device) {
            return Err(AttentionError::Value {
                argument: "device",
                given: format!("{device:?}"),
                accepted: "a device with kernels".into(),
            });
        }
        check_mask("mask", &mask, device)?;
        let (rows, columns) = backend::block_lists(mask.clone(), shape, device);
        Ok(Self {
            mask,
            shape,
            rows,
            columns,
        })
    }

    /// The map of a mask whose tiles are known, row-major in `[batch, heads, q_blocks, kv_blocks]`.
    pub(super) fn of_tiles(
        mask: MaskMod,
        shape: BlockShape,
        tiles: &[Tile],
        device: &Device,
    ) -> Self {
        let (q, kv) = (shape.q_blocks(), shape.kv_blocks());
        let list = |pair: usize, own: usize, [count, of_own, of_across]: [usize; 3]| {
            let entries: Vec<i32> = (0..count)
                .filter_map(
                    |n| match tiles[pair * q * kv + own * of_own + n * of_across] {
                        Tile::Empty => None,
                        Tile::Partial => Some(2 * n as i32),
                        Tile::Full => Some(2 * n as i32 + 1),
                    },
                )
                .collect();
            let mut list = vec![0; count + 1];
            list[0] = entries.len() as i32;
            list[1..=entries.len()].copy_from_slice(&entries);
            list
        };
        let lists = |own: usize, strides: [usize; 3]| {
            let pairs = 0..shape.batch * shape.heads;
            let lists = pairs.flat_map(|pair| (0..own).map(move |own| (pair, own)));
            let lists: Vec<_> = lists
                .flat_map(|(pair, own)| list(pair, own, strides))
                .collect();
            Tensor::<1, Int>::from_data(lists.as_slice(), device)
        };
        Self {
            mask,
            shape,
            rows: lists(q, [kv, kv, 1]),
            columns: lists(kv, [q, 1, kv]),
        }
    }

    /// The same tiles for a mask that hides more: none of them may be full.
    pub(super) fn and(self, mask: MaskMod) -> Self {
        Self {
            mask: self.mask.and(mask),
            ..self
        }
    }

    /// Where it lies.
    pub(super) fn device(&self) -> Device {
        self.rows.device()
    }

    /// What it was made for.
    pub fn shape(&self) -> BlockShape {
        self.shape
    }

    /// The share of tiles that are skipped, from 0 to 1. Reads the map back from the device.
    pub fn sparsity(&self) -> f64 {
        let empty = self.tiles().into_iter().filter(|&tile| tile == Tile::Empty);
        empty.count() as f64 / self.shape.tiles() as f64
    }

    /// Every tile, row-major in `[batch, heads, q_blocks, kv_blocks]`. Reads the map back from the
    /// device.
    pub fn tiles(&self) -> Vec<Tile> {
        let data = self.rows.to_data();
        let lists: Vec<usize> = data.iter::<i64>().map(|entry| entry as usize).collect();
        let across = self.shape.kv_blocks();
        let mut tiles = Vec::with_capacity(self.shape.tiles());
        for list in lists.chunks(across + 1) {
            let mut row = vec![Tile::Empty; across];
            for entry in &list[1..=list[0]] {
                row[entry / 2] = if entry % 2 == 1 {
                    Tile::Full
                } else {
                    Tile::Partial
                };
            }
            tiles.extend(row);
        }
        tiles
    }

    /// Refuses a map for another attention than `problem`, or on another device.
    pub(super) fn check(
        &self,
        problem: &AttentionProblem,
        device: &Device,
    ) -> Result<(), AttentionError> {
        self.shape.check_fits(problem)?;
        check_device("block_map", &self.rows.device(), device)
    }
}

/// The tiles of the first batch element and head: `█` full, `◪` partial, `·` empty.
impl fmt::Display for BlockMap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tiles = self.tiles();
        let rows = tiles.chunks(self.shape.kv_blocks());
        for row in rows.take(self.shape.q_blocks()) {
            for tile in row {
                f.write_str(match tile {
                    Tile::Empty => "·",
                    Tile::Partial => "◪",
                    Tile::Full => "█",
                })?;
            }
            writeln!(f)?;
        }
        Ok(())
    }
}
