use std::ops::Range;

use attention_core::AttentionError;
use burn::tensor::{Bool, Int, Slice, Tensor, TensorData, kind::Basic};

/// The keys and values that one layer keeps.
#[derive(Debug, Clone)]
pub struct LayerCache {
    order: Order,
    size: usize,
    length: usize,
    /// Keys and values, each `[batch, size, kv_heads, head_dim]`, as projections leave them.
    storage: Option<[Tensor<4>; 2]>,
    padding: Option<Padding>,
}

/// Where a token goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Order {
    /// After the one before it, until there is no room.
    Contiguous,
    /// After the one before it, then again at the start.
    Ring,
}

/// Which tokens stand for nothing.
#[derive(Debug, Clone)]
struct Padding {
    /// `[batch, 1, 1, positions]`
    hidden: Tensor<4, Bool>,
    /// From here on there is none.
    end: usize,
}

/// What new tokens see: those in the cache and themselves.
#[derive(Debug, Clone)]
pub struct VisibleKeys {
    /// `[batch, kv_heads, seq_kv, head_dim]`
    pub key: Tensor<4>,
    /// `[batch, kv_heads, seq_kv, head_dim]`
    pub value: Tensor<4>,
    /// `[batch, 1, 1, seq_kv]`, `true` where a sequence has padding.
    pub padding: Option<Tensor<4, Bool>>,
    /// Whether the keys stand in the order of the tokens, of which the queries are the last. If not,
    /// there is one query, and it sees all of them.
    pub in_order: bool,
}

impl LayerCache {
    /// Room for `capacity` tokens.
    pub fn contiguous(capacity: usize) -> Self {
        Self::new(Order::Contiguous, capacity)
    }

    /// The last `window` tokens, a new one among them, of sequences of any length.
    pub fn ring(window: usize) -> Self {
        Self::new(Order::Ring, window.max(1))
    }

    fn new(order: Order, size: usize) -> Self {
        Self {
            order,
            size,
            length: 0,
            storage: None,
            padding: None,
        }
    }

    /// How many tokens there were.
    pub fn length(&self) -> usize {
        self.length
    }

    /// Hides the keys at positions where `hidden` `[batch, 1, 1, positions]` is `true`, none from `end`
    /// on.
    pub(super) fn hide(&mut self, hidden: Tensor<4, Bool>, end: usize) {
        self.padding = Some(Padding { hidden, end });
    }

    /// Adds new tokens' keys and values `[batch, kv_heads, new, head_dim]`, and returns all that they
    /// see.
    ///
    /// # Errors
    /// [`AttentionError::Shape`] without room for them.
    pub fn append(
        &mut self,
        key: Tensor<4>,
        value: Tensor<4>,
    ) -> Result<VisibleKeys, AttentionError> {
        let [batch, kv_heads, new, head_dim] = key.dims();
        if self.order == Order::Contiguous && self.length + new > self.size {
            return Err(AttentionError::Shape {
                argument: "key",
                given: key.dims().to_vec(),
                accepted: format!(
                    "[batch, kv_heads, up to {}, head_dim]: the cache has room for {} tokens",
                    self.size - self.length,
                    self.size
                ),
            });
        }
        let given = [key, value].map(|heads| heads.swap_dims(1, 2));
        // Several tokens overwrite keys that the first of them still sees.
        let before = self.length.min(self.size - 1);
        let before = match &self.storage {
            Some(storage) if self.order == Order::Ring && new > 1 => {
                Some(self.last(storage, before))
            }
            _ => None,
        };
        let shape = [batch, self.size, kv_heads, head_dim];
        let (device, dtype) = (given[0].device(), given[0].dtype());
        let empty = || [(); 2].map(|()| Tensor::zeros(shape, (&device, dtype)));
        let [key, value] = self.storage.take().unwrap_or_else(empty);
        let storage = [self.write(key, &given[0]), self.write(value, &given[1])];

        self.length += new;
        let several = self.order == Order::Ring && new > 1;
        let seen = if several {
            match before {
                Some(before) => joined([before, given]),
                None => given,
            }
        } else {
            let kept = self.length.min(self.size);
            storage.clone().map(|store| store.slice_dim(1, 0..kept))
        };
        let in_order = several || self.length <= self.size || self.length.is_multiple_of(self.size);
        let padding = self.padding_of(seen[0].dims()[1], in_order);
        self.storage = Some(storage);
        let [key, value] = seen.map(|heads| heads.swap_dims(1, 2));
        Ok(VisibleKeys {
            key,
            value,
            padding,
            in_order,
        })
    }

    /// Puts new tokens behind the old ones, in place; of a ring's, those that will be seen again.
    fn write(&self, mut store: Tensor<4>, given: &Tensor<4>) -> Tensor<4> {
        let end = self.length + given.dims()[1];
        for span in self.spans(self.length.max(end.saturating_sub(self.size))..end) {
            let slot = span.start % self.size;
            let slots = [Slice::full(), Slice::from(slot..slot + span.len())];
            let part = span.start - self.length..span.end - self.length;
            store = store.slice_assign(slots, given.clone().slice_dim(1, part));
        }
        store
    }

    /// The last `count` tokens in their order.
    fn last(&self, storage: &[Tensor<4>; 2], count: usize) -> [Tensor<4>; 2] {
        let part = |span: Range<usize>| {
            let slot = span.start % self.size;
            let slots = slot..slot + span.len();
            storage
                .each_ref()
                .map(|store| store.clone().slice_dim(1, slots.clone()))
        };
        let parts = self.spans(self.length - count..self.length).map(part);
        parts
            .reduce(|before, after| joined([before, after]))
            .unwrap_or_else(|| storage.clone().map(|store| store.slice_dim(1, 0..0)))
    }

    /// Positions, cut where they come to the end of the ring.
    fn spans(&self, positions: Range<usize>) -> impl Iterator<Item = Range<usize>> {
        let cut = positions.end.saturating_sub(1) / self.size.max(1) * self.size;
        let cut = cut.clamp(positions.start, positions.end);
        let spans = [positions.start..cut, cut..positions.end];
        spans.into_iter().filter(|span| !span.is_empty())
    }

    /// The padding among the last `count` tokens, as [`append`](Self::append) returns them.
    fn padding_of(&self, count: usize, in_order: bool) -> Option<Tensor<4, Bool>> {
        let padding = self.padding.as_ref()?;
        let first = self.length - count;
        if first >= padding.end {
            return None;
        }
        let part = |positions: Range<usize>| padding.hidden.clone().slice_dim(3, positions);
        if in_order {
            return Some(part(first..self.length));
        }
        let lap = self.length / self.size * self.size;
        let parts = [lap..self.length, first..lap];
        let parts = parts.into_iter().filter(|positions| !positions.is_empty());
        Some(Tensor::cat(parts.map(part).collect(), 3))
    }

    /// Makes sequence `n` what sequence `rows[n]` was.
    pub fn select(&mut self, rows: &[usize]) {
        fn chosen<K: Basic>(tensor: Tensor<4, K>, rows: &[usize]) -> Tensor<4, K> {
            let rows: Vec<i64> = rows.iter().map(|&row| row as i64).collect();
            let rows = TensorData::new(rows.clone(), [rows.len()]);
            let rows = Tensor::<1, Int>::from_data(rows, &tensor.device());
            tensor.select(0, rows)
        }
        self.storage = self
            .storage
            .take()
            .map(|storage| storage.map(|store| chosen(store, rows)));
        if let Some(padding) = &mut self.padding {
            padding.hidden = chosen(padding.hidden.clone(), rows);
        }
    }
}

/// Keys and values, those of the second behind those of the first.
fn joined(parts: [[Tensor<4>; 2]; 2]) -> [Tensor<4>; 2] {
    let [[key, value], [key_after, value_after]] = parts;
    let join = |before, after| Tensor::cat(vec![before, after], 1);
    [join(key, key_after), join(value, value_after)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Device;

    /// Keys whose only number is the token's position, behind a hundred.
    fn tokens(positions: Range<usize>) -> [Tensor<4>; 2] {
        let key: Vec<f32> = positions.map(|at| 100.0 + at as f32).collect();
        let key = TensorData::new(key.clone(), [1, 1, key.len(), 1]);
        let key = Tensor::from_data(key, &Device::flex());
        [key.clone(), key.neg()]
    }

    fn positions(heads: &Tensor<4>) -> Vec<usize> {
        let heads = heads.to_data();
        heads
            .iter::<f32>()
            .map(|at| (at.abs() - 100.0) as usize)
            .collect()
    }

    fn append(cache: &mut LayerCache, range: Range<usize>) -> VisibleKeys {
        let [key, value] = tokens(range);
        let seen = cache.append(key, value).unwrap();
        assert_eq!(positions(&seen.key), positions(&seen.value));
        seen
    }

    #[test]
    fn a_contiguous_cache_shows_all_tokens_in_order_until_it_is_full() {
        let mut cache = LayerCache::contiguous(6);
        assert_eq!(positions(&append(&mut cache, 0..3).key), [0, 1, 2]);
        let seen = append(&mut cache, 3..6);
        assert!(seen.in_order);
        assert_eq!(positions(&seen.key), [0, 1, 2, 3, 4, 5]);
        let [key, value] = tokens(6..7);
        assert_eq!(
            cache.append(key, value).unwrap_err().to_string(),
            "`key` has shape [1, 1, 1, 1]; accepted: [batch, kv_heads, up to 0, head_dim]: the \
             cache has room for 6 tokens"
        );
    }

    #[test]
    fn a_ring_shows_a_token_the_last_window_of_tokens() {
        let mut cache = LayerCache::ring(4);
        assert_eq!(positions(&append(&mut cache, 0..2).key), [0, 1]);
        for at in 2..12 {
            let seen = append(&mut cache, at..at + 1);
            let mut shown = positions(&seen.key);
            assert_eq!(seen.in_order, shown.is_sorted());
            shown.sort();
            assert_eq!(shown, (at.saturating_sub(3)..at + 1).collect::<Vec<_>>());
        }
    }

    #[test]
    fn several_tokens_see_in_a_ring_what_the_first_of_them_sees() {
        for first in 1..9 {
            let mut cache = LayerCache::ring(4);
            append(&mut cache, 0..first);
            let seen = append(&mut cache, first..first + 7);
            assert!(seen.in_order);
            let expected: Vec<_> = (first.saturating_sub(3)..first + 7).collect();
            assert_eq!(positions(&seen.key), expected);
            let mut next = positions(&append(&mut cache, first + 7..first + 8).key);
            next.sort();
            assert_eq!(next, (first + 4..first + 8).collect::<Vec<_>>());
        }
    }
}
