use burn::module::{Initializer, Module, Param};
use burn::nn::{Linear, LinearConfig};
use burn::tensor::{Device, Tensor};

use super::windows::Windows;
use super::{CosineAttention, SwinConfig, SwinVersion};
use crate::nn::{merge_heads, split_heads};
use crate::ops::{AttentionOptions, attention, attention_rows, attention_with_lse, variants};

/// Attention of each token to the tokens of its window, with learned terms for the offset between
/// them.
#[derive(Module, Debug)]
pub struct WindowAttention {
    /// `width -> width`
    pub query: Linear,
    /// `width -> width`
    pub key: Linear,
    /// `width -> width`
    pub value: Linear,
    /// `width -> width`
    pub output: Linear,
    /// Version 1's terms of offsets, `[(2 * window - 1)^2, heads]`.
    pub position_table: Option<Param<Tensor<2>>>,
    /// Version 2's scores.
    pub cosine: Option<CosineAttention>,
    heads: usize,
    /// The window for which there are terms.
    window: usize,
}

/// The arguments of attention on one grid.
struct Call {
    query: Tensor<4>,
    key: Tensor<4>,
    options: AttentionOptions,
}

impl WindowAttention {
    pub(super) fn new(config: &SwinConfig, stage: usize, window: usize, device: &Device) -> Self {
        let (width, heads) = (config.width(stage), config.heads[stage]);
        let first = config.version == SwinVersion::V1;
        let linear = |bias: bool| LinearConfig::new(width, width).with_bias(bias).init(device);
        let pretrained = config.pretrained_windows.get(stage).copied();
        Self {
            query: linear(config.qkv_bias),
            key: linear(config.qkv_bias && first),
            value: linear(config.qkv_bias),
            output: linear(true),
            position_table: first.then(|| {
                let normal = Initializer::Normal {
                    mean: 0.0,
                    std: 0.02,
                };
                normal.init([(2 * window - 1).pow(2), heads], device)
            }),
            cosine: (!first)
                .then(|| CosineAttention::new(heads, window, pretrained.unwrap_or(0), device)),
            heads,
            window,
        }
    }

    /// `[batch, rows * columns, width]` to the same.
    pub(super) fn forward(&self, tokens: Tensor<3>, windows: &Windows) -> Tensor<3> {
        let value = split_heads(self.value.forward(tokens.clone()), self.heads);
        let Call {
            query,
            key,
            options,
        } = self.call(tokens, windows);
        let context = attention(query, key, value, options);
        self.output.forward(merge_heads(context))
    }

    /// How much the tokens of each window attend to each other,
    /// `[batch * windows, heads, window^2, window^2]`.
    pub(super) fn probabilities(&self, tokens: Tensor<3>, windows: &Windows) -> Tensor<4> {
        let Call {
            query,
            key,
            options,
        } = self.call(tokens, windows);
        let (_, lse) = attention_with_lse(query.clone(), key.clone(), key.clone(), options.clone());
        let device = query.device();
        let maps = windows.tokens().into_iter().map(|window| {
            let (query, key, lse) = (query.clone(), key.clone(), lse.clone());
            let rows = attention_rows(query, key, lse, &window, options.clone());
            let keys: Vec<i32> = window.iter().map(|token| *token as i32).collect();
            rows.select(3, Tensor::from_data(keys.as_slice(), &device))
        });
        let maps: Tensor<5> = Tensor::stack(maps.collect(), 1);
        let [batch, count, heads, queries, keys] = maps.dims();
        maps.reshape([batch * count, heads, queries, keys])
    }

    fn call(&self, tokens: Tensor<3>, windows: &Windows) -> Call {
        let query = split_heads(self.query.forward(tokens.clone()), self.heads);
        let key = split_heads(self.key.forward(tokens), self.heads);
        let (query, key, table, options) = match (&self.cosine, &self.position_table) {
            (Some(cosine), _) => {
                let (query, key) = cosine.normalize(query, key);
                let options = windows.options().with_scale(1.0);
                (query, key, Some(cosine.table()), options)
            }
            (None, table) => {
                let table = table.as_ref().map(Param::val);
                (query, key, table, windows.options())
            }
        };
        let options = match table {
            Some(table) => {
                let [entries, heads] = table.dims();
                let table = table.swap_dims(0, 1).reshape([entries * heads]);
                let (window, columns) = (self.window as u32, windows.grid[1] as u32);
                options.with_score_mod(variants::window_position_bias(table, window, columns))
            }
            None => options,
        };
        Call {
            query,
            key,
            options,
        }
    }
}
