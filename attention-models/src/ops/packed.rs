//! Sequences of different lengths, packed one after the other without padding.

use std::ops::Range;

use attention_core::{AttentionError, CausalAlignment};
use attention_kernels::block_map::BlockShape;
use burn::tensor::{Device, Int, Tensor};

use super::{
    AttentionOptions, BlockMap, Tile, accept, check::check_device, try_attention_with_lse, variants,
};

/// Where each of several packed sequences begins and ends, and which blocks of the score matrix they
/// leave: made once, and used by every layer.
///
/// Sequence `n` has the queries from `cu_seqlens_q[n]` to before `cu_seqlens_q[n + 1]`, and the keys
/// from `cu_seqlens_kv[n]` to before `cu_seqlens_kv[n + 1]`; either may have none. FlashAttention's
/// `varlen` functions take the same two lists (<https://arxiv.org/abs/2307.08691>).
///
/// ```
/// use attention_models::ops::{AttentionOptions, CausalAlignment, PackedSequences, attention_packed};
/// use burn::tensor::{Device, Tensor};
///
/// let device = Device::flex();
/// // Three sequences of 5, 2 and 9 tokens.
/// let ends = [0, 5, 7, 16];
/// let sequences =
///     PackedSequences::new(&ends, &ends, Some(CausalAlignment::BottomRight), &device);
/// let x = Tensor::<3>::ones([16, 4, 32], &device);
/// let out = attention_packed(x.clone(), x.clone(), x, &sequences, AttentionOptions::default());
/// assert_eq!(out.dims(), [16, 4, 32]);
/// ```
#[derive(Debug, Clone)]
pub struct PackedSequences {
    map: BlockMap,
    /// The same tiles, none of them called full: for a mask besides.
    tested: BlockMap,
}

impl PackedSequences {
    /// Sequences of these lengths, on `device`; causality is that of each sequence.
    ///
    /// # Panics
    /// With the message of the error that [`PackedSequences::try_new`] returns.
    pub fn new(
        cu_seqlens_q: &[usize],
        cu_seqlens_kv: &[usize],
        causal: Option<CausalAlignment>,
        device: &Device,
    ) -> Self {
        accept(Self::try_new(cu_seqlens_q, cu_seqlens_kv, causal, device))
    }

    /// [`PackedSequences::new`], refusing bad input with a typed error.
    ///
    /// # Errors
    /// [`AttentionError::Value`] for a list that does not begin at 0, decreases, or spells no token,
    /// and for lists of different numbers of sequences.
    ///
    /// ```
    /// use attention_models::ops::PackedSequences;
    /// use burn::tensor::Device;
    ///
    /// let refusal = PackedSequences::try_new(&[0, 7, 5], &[0, 7, 9], None, &Device::flex());
    /// assert_eq!(
    ///     refusal.unwrap_err().to_string(),
    ///     "`cu_seqlens_q` is 5 after 7 at index 2; accepted: a list that does not decrease",
    /// );
    /// ```
    pub fn try_new(
        cu_seqlens_q: &[usize],
        cu_seqlens_kv: &[usize],
        causal: Option<CausalAlignment>,
        device: &Device,
    ) -> Result<Self, AttentionError> {
        let seq_q = total("cu_seqlens_q", cu_seqlens_q)?;
        let seq_kv = total("cu_seqlens_kv", cu_seqlens_kv)?;
        if cu_seqlens_q.len() != cu_seqlens_kv.len() {
            return Err(AttentionError::Value {
                argument: "cu_seqlens_kv",
                given: format!("a list of {} sequences", cu_seqlens_kv.len() - 1),
                accepted: format!("{}, as cu_seqlens_q", cu_seqlens_q.len() - 1),
            });
        }
        let sequences = cu_seqlens_q.windows(2).zip(cu_seqlens_kv.windows(2));
        let ranges: Vec<_> = sequences
            .flat_map(|(q, kv)| seen_keys(q[0]..q[1], kv[0]..kv[1], causal))
            .collect();

        let list = |of: fn(&Range<usize>) -> usize| {
            let values: Vec<_> = ranges.iter().map(|range| of(range) as i32).collect();
            Tensor::<1, Int>::from_data(values.as_slice(), device)
        };
        let mask = variants::key_range(list(|range| range.start), list(|range| range.end));
        let shape = BlockShape::new(seq_q, seq_kv);
        let mut tiles = tiles(&ranges, shape);
        let map = BlockMap::of_tiles(mask.clone(), shape, &tiles, device);
        for tile in tiles.iter_mut().filter(|tile| **tile == Tile::Full) {
            *tile = Tile::Partial;
        }
        Ok(Self {
            map,
            tested: BlockMap::of_tiles(mask, shape, &tiles, device),
        })
    }

    /// Queries of all sequences.
    pub fn total_q(&self) -> usize {
        self.map.shape().seq_q
    }

    /// Keys of all sequences.
    pub fn total_kv(&self) -> usize {
        self.map.shape().seq_kv
    }
}

/// Attention within each of several packed sequences: `softmax(mask(bias + softcap(scale * q k^T))) v`.
///
/// # Shapes
/// - `query`: `[total_q, heads, head_dim]`
/// - `key`: `[total_kv, kv_heads, head_dim]`; `kv_heads` divides `heads`
/// - `value`: `[total_kv, kv_heads, value_dim]`
/// - returns `[total_q, heads, value_dim]`
///
/// No padding is computed and no mask stored: the time is that of the blocks of 64 x 64 scores which the
/// sequences touch. `options` apply to the packed tensors, as if they were one sequence: a mask or bias
/// is `[1, heads | 1, total_q | 1, total_kv | 1]`, and code counts positions from the first token of the
/// first sequence. Dtypes, gradients and repeatability are those of [`attention`](super::attention).
///
/// # Panics
/// With the message of the error that [`try_attention_packed`] returns.
pub fn attention_packed(
    query: Tensor<3>,
    key: Tensor<3>,
    value: Tensor<3>,
    sequences: &PackedSequences,
    options: AttentionOptions,
) -> Tensor<3> {
    accept(try_attention_packed(query, key, value, sequences, options)).0
}

/// [`attention_packed`], and the log-sum-exp `[heads, total_q]` in `f32`; bad input is refused with a typed
/// error.
///
/// # Errors
/// - [`AttentionError::Shape`]: a query, key or value of another length than the sequences
/// - [`AttentionError::Value`]: causality in `options`, where it would be that of all tokens, or a block
///   map in `options`
/// - those of [`try_attention`](super::try_attention)
///
/// ```
/// use attention_models::ops::{AttentionOptions, PackedSequences, try_attention_packed};
/// use burn::tensor::{Device, Tensor};
///
/// let device = Device::flex();
/// let sequences = PackedSequences::new(&[0, 5, 9], &[0, 5, 9], None, &device);
/// let x = Tensor::<3>::ones([8, 2, 16], &device);
/// let refusal =
///     try_attention_packed(x.clone(), x.clone(), x, &sequences, AttentionOptions::default());
/// assert_eq!(
///     refusal.unwrap_err().to_string(),
///     "`query` has shape [8, 2, 16]; accepted: [9, heads, head_dim]: the sequences end at 9",
/// );
/// ```
pub fn try_attention_packed(
    query: Tensor<3>,
    key: Tensor<3>,
    value: Tensor<3>,
    sequences: &PackedSequences,
    options: AttentionOptions,
) -> Result<(Tensor<3>, Tensor<2>), AttentionError> {
    for (argument, tensor, total, rest) in [
        ("query", &query, sequences.total_q(), "heads, head_dim"),
        ("key", &key, sequences.total_kv(), "kv_heads, head_dim"),
        ("value", &value, sequences.total_kv(), "kv_heads, value_dim"),
    ] {
        if tensor.dims()[0] != total {
            return Err(AttentionError::Shape {
                argument,
                given: tensor.dims().to_vec(),
                accepted: format!("[{total}, {rest}]: the sequences end at {total}"),
            });
        }
    }
    let taken = [
        (
            "options.causal",
            options.spec.causal.is_some(),
            "none: `PackedSequences` takes it",
        ),
        (
            "options.block_map",
            options.block_map.is_some(),
            "none: `PackedSequences` holds one",
        ),
    ];
    for (argument, given, accepted) in taken {
        if given {
            return Err(AttentionError::Value {
                argument,
                given: "given".into(),
                accepted: accepted.into(),
            });
        }
    }
    check_device("sequences", &sequences.map.device(), &query.device())?;
    let block_map = match options.mask_mod {
        None => sequences.map.clone(),
        Some(mask) => sequences.tested.clone().and(mask),
    };
    let options = AttentionOptions {
        block_map: Some(block_map),
        mask_mod: None,
        ..options
    };
    let batched = |tensor: Tensor<3>| tensor.unsqueeze_dim::<4>(0).swap_dims(1, 2);
    let (out, lse) = try_attention_with_lse(batched(query), batched(key), batched(value), options)?;
    let out = out.swap_dims(1, 2).squeeze_dim::<3>(0);
    Ok((out, lse.squeeze_dim::<2>(0)))
}

/// The tokens of a list of ends.
fn total(argument: &'static str, cu_seqlens: &[usize]) -> Result<usize, AttentionError> {
    let refuse = |given: String, accepted: &str| {
        Err(AttentionError::Value {
            argument,
            given,
            accepted: accepted.into(),
        })
    };
    let (Some(&first), Some(&last)) = (cu_seqlens.first(), cu_seqlens.last()) else {
        return refuse("an empty list".into(), "0, and the end of each sequence");
    };
    if first != 0 {
        return refuse(format!("{first} at index 0"), "a list that begins at 0");
    }
    let mut pairs = cu_seqlens.windows(2).enumerate();
    if let Some((index, pair)) = pairs.find(|(_, pair)| pair[1] < pair[0]) {
        let given = format!("{} after {} at index {}", pair[1], pair[0], index + 1);
        return refuse(given, "a list that does not decrease");
    }
    if last == 0 || last > i32::MAX as usize {
        return refuse(
            format!("a list that ends at {last}"),
            "from 1 to 2147483647 tokens",
        );
    }
    Ok(last)
}

/// The keys that each query of one sequence sees.
fn seen_keys(
    queries: Range<usize>,
    keys: Range<usize>,
    causal: Option<CausalAlignment>,
) -> impl Iterator<Item = Range<usize>> {
    let count = queries.len();
    (0..count).map(move |i| {
        let seen = match causal {
            None => keys.len(),
            Some(CausalAlignment::TopLeft) => i + 1,
            Some(CausalAlignment::BottomRight) => (i + 1 + keys.len()).saturating_sub(count),
        };
        keys.start..keys.start + seen.min(keys.len())
    })
}

/// What the ranges leave of each tile.
fn tiles(ranges: &[Range<usize>], shape: BlockShape) -> Vec<Tile> {
    let (kv_blocks, size) = (shape.kv_blocks(), shape.block_kv);
    let mut tiles = Vec::with_capacity(shape.tiles());
    for queries in ranges.chunks(shape.block_q) {
        let mut seen = vec![0; kv_blocks];
        for range in queries.iter().filter(|range| !range.is_empty()) {
            for (block, seen) in seen
                .iter_mut()
                .enumerate()
                .take(range.end.div_ceil(size))
                .skip(range.start / size)
            {
                *seen += range.end.min((block + 1) * size) - range.start.max(block * size);
            }
        }
        let elements = |block: usize| {
            let keys = shape.seq_kv.min((block + 1) * size) - block * size;
            keys * queries.len()
        };
        tiles.extend(
            seen.into_iter()
                .enumerate()
                .map(|(block, seen)| match seen {
                    0 => Tile::Empty,
                    seen if seen == elements(block) => Tile::Full,
                    _ => Tile::Partial,
                }),
        );
    }
    tiles
}
