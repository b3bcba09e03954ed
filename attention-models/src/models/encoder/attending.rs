//! Attention of padded batches, as the reference implementations compute it.

use attention_core::AttentionError;
use burn::tensor::{Bool, Tensor};

use crate::models::blocks::Projected;
use crate::ops::{try_attention, try_attention_rows, try_attention_with_lse};

/// Queries that attend to all keys alike, hidden ones too: that is what a softmax over equally low scores gives, so
/// the reference implementations compute it where a mask leaves a query nothing. Only padding ever is such a query,
/// and nothing reads what comes of it.
#[derive(Debug, Clone, Default)]
#[expect(clippy::large_enum_variant, reason = "one exists in a forward pass")]
pub(super) enum Blind {
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
                let rows = rows.expand([batch, heads, queries, 1]);
                Some(rows.bool_or(without_keys()))
            }
        }
    }
}

/// What every query attended to, `[batch, seq_q, heads * head_dim]`; `blind` queries get the mean of all values.
pub(super) fn context(projected: Projected, blind: &Blind) -> Result<Tensor<3>, AttentionError> {
    let Projected {
        query,
        key,
        value,
        options,
    } = projected;
    if matches!(blind, Blind::None) {
        return Ok(merge_heads(try_attention(query, key, value, options)?));
    }
    let (context, lse) = try_attention_with_lse(query, key, value.clone(), options)?;
    let context = match blind.rows(lse) {
        Some(rows) => {
            let shape = context.dims();
            context.mask_where(rows.expand(shape), value.mean_dim(2).expand(shape))
        }
        None => context,
    };
    Ok(merge_heads(context))
}

/// The whole matrix of probabilities, `[batch, heads, seq_q, seq_kv]`, to look at.
pub(super) fn probabilities(
    projected: Projected,
    blind: &Blind,
) -> Result<Tensor<4>, AttentionError> {
    let Projected {
        query,
        key,
        value,
        options,
    } = projected;
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

/// `[batch, heads, seq, dim]` as `[batch, seq, heads * dim]`.
fn merge_heads(heads: Tensor<4>) -> Tensor<3> {
    let [batch, count, seq, width] = heads.dims();
    heads.swap_dims(1, 2).reshape([batch, seq, count * width])
}
