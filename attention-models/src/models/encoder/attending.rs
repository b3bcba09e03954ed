//! One call of attention between a model's projections.

use attention_core::AttentionError;
use burn::tensor::{Bool, Tensor};

use crate::nn::{MultiHeadAttention, split_heads};
use crate::ops::{AttentionOptions, try_attention_rows, try_attention_with_lse};

/// Projected queries, keys and values, and the options of the call.
#[derive(Debug, Clone)]
pub(in crate::models) struct Attending {
    /// `[batch, heads, seq_q, head_dim]`
    pub query: Tensor<4>,
    /// `[batch, heads, seq_kv, head_dim]`
    pub key: Tensor<4>,
    /// `[batch, heads, seq_kv, head_dim]`
    pub value: Tensor<4>,
    pub options: AttentionOptions,
}

impl Attending {
    /// The projections of `module`, with its scale and causality.
    pub fn new(module: &MultiHeadAttention, queries: Tensor<3>, keys: Tensor<3>) -> Self {
        Self {
            query: split_heads(module.query.forward(queries), module.n_heads),
            key: split_heads(module.key.forward(keys.clone()), module.n_kv_heads),
            value: split_heads(module.value.forward(keys), module.n_kv_heads),
            options: module.spec.into(),
        }
    }

    /// Hides padded keys: `[batch, seq_kv]`, `true` hides.
    pub fn with_padding(mut self, padding: Option<&Tensor<2, Bool>>) -> Self {
        if let Some(padding) = padding {
            let [batch, keys] = padding.dims();
            let mask = padding.clone().reshape([batch, 1, 1, keys]);
            self.options = self.options.with_mask(mask);
        }
        self
    }

    /// Changes the options.
    pub fn with_options(
        mut self,
        change: impl FnOnce(AttentionOptions) -> AttentionOptions,
    ) -> Self {
        self.options = change(self.options);
        self
    }

    /// What every query attended to, `[batch, seq_q, heads * head_dim]`. `blind` queries get the mean of all values.
    pub fn context(self, blind: &Blind) -> Result<Tensor<3>, AttentionError> {
        let mean = self.value.clone().mean_dim(2);
        let (context, lse) =
            try_attention_with_lse(self.query, self.key, self.value, self.options)?;
        let context = match blind.rows(lse) {
            Some(rows) => {
                let shape = context.dims();
                context.mask_where(rows.expand(shape), mean.expand(shape))
            }
            None => context,
        };
        let [batch, heads, seq, width] = context.dims();
        Ok(context.swap_dims(1, 2).reshape([batch, seq, heads * width]))
    }

    /// The whole matrix of probabilities, `[batch, heads, seq_q, seq_kv]`, to look at.
    pub fn probabilities(self, blind: &Blind) -> Result<Tensor<4>, AttentionError> {
        let Self {
            query,
            key,
            value,
            options,
        } = self;
        let (queries, keys) = (query.dims()[2], key.dims()[2]);
        let (_, lse) = try_attention_with_lse(query.clone(), key.clone(), value, options.clone())?;
        let all: Vec<_> = (0..queries).collect();
        let map = try_attention_rows(query, key, lse.clone(), &all, options)?;
        Ok(match blind.rows(lse) {
            Some(rows) => {
                let shape = map.dims();
                map.mask_fill(rows.expand(shape), 1.0 / keys as f64)
            }
            None => map,
        })
    }
}

/// Queries that attend to all keys alike, hidden ones too: that is what a softmax over equally low scores gives, so
/// the reference implementations compute it where a mask leaves a query nothing. Only padding ever is such a query,
/// and nothing reads what comes of it.
#[derive(Debug, Clone, Default)]
pub(in crate::models) enum Blind {
    /// There is no padding.
    #[default]
    None,
    /// Those that see no key.
    WithoutKeys,
    /// These, and those that see no key: `[batch, seq_q]`.
    Rows(Tensor<2, Bool>),
}

impl Blind {
    /// Queries without keys, where there is padding.
    pub fn by(padding: Option<&Tensor<2, Bool>>) -> Self {
        match padding {
            Some(_) => Self::WithoutKeys,
            None => Self::None,
        }
    }

    /// `[batch, heads, seq_q, 1]`
    fn rows(&self, lse: Tensor<3>) -> Option<Tensor<4, Bool>> {
        let [batch, heads, queries] = lse.dims();
        let without_keys = || {
            let hidden = lse.equal_elem(f32::NEG_INFINITY);
            hidden.reshape([batch, heads, queries, 1])
        };
        match self {
            Self::None => None,
            Self::WithoutKeys => Some(without_keys()),
            Self::Rows(rows) => {
                let rows = rows.clone().reshape([batch, 1, queries, 1]);
                Some(without_keys().bool_or(rows.expand([batch, heads, queries, 1])))
            }
        }
    }
}
