//! Windows and ALiBi as code of the kernels, or as tensors where there are none.

#[cfg(not(feature = "cube"))]
use burn::tensor::{Bool, TensorData};
use burn::tensor::{Device, Tensor};

use super::Window;
use crate::ops::AttentionOptions;
#[cfg(feature = "cube")]
use crate::ops::variants;

/// Hides the keys outside of a window around each query, the first of which is at `offset`.
#[cfg(feature = "cube")]
pub(super) fn windowed(
    options: AttentionOptions,
    window: Window,
    offset: usize,
    _lengths: [usize; 2],
    _device: &Device,
) -> AttentionOptions {
    let [before, after] = [window.before, window.after].map(|reach| reach as u32);
    let mask = variants::sliding_window(before, after, offset as u32);
    options.with_mask_mod(mask)
}

#[cfg(not(feature = "cube"))]
pub(super) fn windowed(
    options: AttentionOptions,
    window: Window,
    offset: usize,
    [seq_q, seq_kv]: [usize; 2],
    device: &Device,
) -> AttentionOptions {
    let hidden = (0..seq_q * seq_kv).map(|n| {
        let (query, key) = (n / seq_kv + offset, n % seq_kv);
        key + window.before < query || key > query + window.after
    });
    let data = TensorData::new(hidden.collect(), [1, 1, seq_q, seq_kv]);
    let hidden = Tensor::<4, Bool>::from_data(data, device);
    let hidden = match options.mask.clone() {
        Some(mask) => {
            let batch = mask.dims()[0];
            let shape = [batch, 1, seq_q, seq_kv];
            hidden.expand(shape).bool_or(mask.expand(shape))
        }
        None => hidden,
    };
    options.with_mask(hidden)
}

/// Lowers scores with the distance.
#[cfg(feature = "cube")]
pub(super) fn sloped(
    options: AttentionOptions,
    slopes: &[f32],
    offset: usize,
    _lengths: [usize; 2],
    key: &Tensor<4>,
) -> AttentionOptions {
    let slopes = Tensor::<1>::from_data(slopes, &key.device());
    options.with_score_mod(variants::alibi(slopes, offset as u32))
}

#[cfg(not(feature = "cube"))]
pub(super) fn sloped(
    options: AttentionOptions,
    slopes: &[f32],
    offset: usize,
    [seq_q, seq_kv]: [usize; 2],
    key: &Tensor<4>,
) -> AttentionOptions {
    let terms = slopes.iter().flat_map(|slope| {
        let distances = (0..seq_q * seq_kv).map(|n| (n / seq_kv + offset).abs_diff(n % seq_kv));
        distances.map(move |distance| -slope * distance as f32)
    });
    let shape = [1, slopes.len(), seq_q, seq_kv];
    let data = TensorData::new(terms.collect(), shape);
    let bias = Tensor::<4>::from_data(data, &key.device()).cast(key.dtype());
    options.with_bias(bias)
}
