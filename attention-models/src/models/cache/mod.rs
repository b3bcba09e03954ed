//! Keys and values of the tokens that a decoder has seen, so that a new token costs one row of
//! attention. Memory is allocated once and written in place.
//!
//! ```
//! use attention_models::models::cache::LayerCache;
//! use burn::tensor::{Device, Tensor};
//!
//! let device = Device::flex();
//! let heads = |seq| Tensor::<4>::ones([1, 2, seq, 8], &device);
//! let mut cache = LayerCache::contiguous(100);
//! assert_eq!(cache.append(heads(5), heads(5))?.key.dims(), [1, 2, 5, 8]);
//! assert_eq!(cache.append(heads(1), heads(1))?.key.dims(), [1, 2, 6, 8]);
//! # Ok::<(), attention_models::ops::AttentionError>(())
//! ```

mod layer;

pub use layer::{LayerCache, VisibleKeys};

use attention_core::AttentionError;
use burn::tensor::{Bool, Device, Tensor, TensorData};

use super::blocks::Positions;

/// The caches of all layers of a decoder.
#[derive(Debug, Clone)]
pub struct KvCache {
    layers: Vec<LayerCache>,
    capacity: usize,
    padding: Vec<usize>,
}

impl KvCache {
    /// Room for `capacity` tokens. Layers that see a window of so many tokens keep only those.
    pub fn new(windows: impl IntoIterator<Item = Option<usize>>, capacity: usize) -> Self {
        let layer = |window: Option<usize>| match window {
            Some(window) if window < capacity => LayerCache::ring(window),
            _ => LayerCache::contiguous(capacity),
        };
        Self {
            layers: windows.into_iter().map(layer).collect(),
            capacity,
            padding: Vec::new(),
        }
    }

    /// For sequences that begin with so many tokens of padding each, which no token will see.
    ///
    /// # Errors
    /// [`AttentionError::Value`] where there is more padding than room.
    pub fn with_left_padding(
        mut self,
        padding: &[usize],
        device: &Device,
    ) -> Result<Self, AttentionError> {
        let longest = padding.iter().copied().max().unwrap_or(0);
        if longest > self.capacity {
            return Err(AttentionError::Value {
                argument: "padding",
                given: longest.to_string(),
                accepted: format!("at most the capacity, {}", self.capacity),
            });
        }
        self.padding = padding.to_vec();
        if longest == 0 {
            return Ok(self);
        }
        let hidden = padding
            .iter()
            .flat_map(|&count| (0..self.capacity).map(move |at| at < count));
        let shape = [padding.len(), 1, 1, self.capacity];
        let hidden = TensorData::new(hidden.collect::<Vec<bool>>(), shape);
        let hidden = Tensor::<4, Bool>::from_data(hidden, device);
        for layer in &mut self.layers {
            layer.hide(hidden.clone(), longest);
        }
        Ok(self)
    }

    /// How many tokens each sequence has.
    pub fn length(&self) -> usize {
        self.layers.first().map_or(0, LayerCache::length)
    }

    /// For how many tokens there is room.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// The positions of so many tokens for so many sequences, which come next.
    ///
    /// # Errors
    /// [`AttentionError::Shape`] without room for them, or for another number of sequences than
    /// there was padding given for.
    pub fn next_positions(&self, [batch, new]: [usize; 2]) -> Result<Positions, AttentionError> {
        let length = self.length();
        let room = self.capacity - length;
        let sequences = self.padding.len();
        if new > room || sequences > 0 && sequences != batch {
            let sequences = match sequences {
                0 => "batch".into(),
                count => count.to_string(),
            };
            return Err(AttentionError::Shape {
                argument: "tokens",
                given: vec![batch, new],
                accepted: format!(
                    "[{sequences}, up to {room}]: the cache has room for {} tokens and holds \
                     {length}",
                    self.capacity
                ),
            });
        }
        Ok(Positions::left_padded(length..length + new, &self.padding))
    }

    /// The cache of each layer.
    pub fn layers(&mut self) -> &mut [LayerCache] {
        &mut self.layers
    }

    /// Makes sequence `n` what sequence `rows[n]` was: beams that go on, or one prompt for several.
    pub fn select(&mut self, rows: &[usize]) {
        if !self.padding.is_empty() {
            self.padding = rows.iter().map(|&row| self.padding[row]).collect();
        }
        for layer in &mut self.layers {
            layer.select(rows);
        }
    }
}
