//! Self-attention with the variants that Transformers choose among.

mod config;
mod variants;

pub use config::{PositionEncoding, SelfAttentionConfig, Window};

use attention_core::{AttentionError, CausalAlignment};
use burn::module::{Module, Param};
use burn::nn::Linear;
use burn::tensor::{Bool, Device, Tensor};

use super::{DifferentialHeads, Positions, RmsNorm, Rotary, RotaryTable};
use crate::models::cache::{LayerCache, VisibleKeys};
use crate::nn::split_heads;
use crate::ops::{
    Attended, AttentionOptions, try_attention, try_attention_rows, try_attention_with_lse,
    try_with_sinks,
};
use variants::{sloped, windowed};

/// Self-attention over the tokens of a sequence; see [`SelfAttentionConfig`] for its variants.
#[derive(Module, Debug)]
pub struct SelfAttention {
    /// `hidden_size -> heads * head_dim`
    pub query: Linear,
    /// `hidden_size -> kv_heads * head_dim`
    pub key: Linear,
    /// `hidden_size -> kv_heads * head_dim`
    pub value: Linear,
    /// `heads * head_dim -> hidden_size`
    pub output: Linear,
    /// Of each head's queries.
    pub query_norm: Option<RmsNorm>,
    /// Of each head's keys.
    pub key_norm: Option<RmsNorm>,
    /// `[heads]`
    pub sinks: Option<Param<Tensor<1>>>,
    /// What makes the difference of two maps of it.
    pub differential: Option<DifferentialHeads>,
    #[module(skip)]
    rotary: Option<Rotary>,
    #[module(skip)]
    config: SelfAttentionConfig,
}

/// What all layers are given beside the tokens.
#[derive(Debug, Clone)]
pub struct AttentionInput {
    tables: Vec<(Rotary, RotaryTable)>,
    padding: Option<Tensor<4, Bool>>,
}

/// Queries, keys and values of all heads, and what the queries see.
#[derive(Debug, Clone)]
pub struct Projected {
    /// `[batch, heads, seq_q, head_dim]`
    pub query: Tensor<4>,
    /// `[batch, kv_heads, seq_kv, head_dim]`
    pub key: Tensor<4>,
    /// `[batch, kv_heads, seq_kv, head_dim]`
    pub value: Tensor<4>,
    /// The rest.
    pub options: AttentionOptions,
}

impl AttentionInput {
    /// For tokens at `positions`, in a model with these attentions: layers that rotate alike share a
    /// table.
    pub fn new<'a>(
        attentions: impl IntoIterator<Item = &'a SelfAttention>,
        positions: &Positions,
        device: &Device,
    ) -> Self {
        let mut tables = Vec::<(Rotary, RotaryTable)>::new();
        for rotary in attentions.into_iter().filter_map(|it| it.rotary.as_ref()) {
            if tables.iter().all(|(known, _)| known != rotary) {
                tables.push((rotary.clone(), rotary.table(positions, device)));
            }
        }
        Self {
            tables,
            padding: None,
        }
    }

    /// Hides the keys where `padding` `[batch, seq]` is `true`. Not for tokens that have a cache: it
    /// knows its own padding.
    pub fn with_padding(mut self, padding: Tensor<2, Bool>) -> Self {
        let [batch, seq] = padding.dims();
        self.padding = Some(padding.reshape([batch, 1, 1, seq]));
        self
    }
}

impl SelfAttention {
    /// How it was made.
    pub fn config(&self) -> &SelfAttentionConfig {
        &self.config
    }

    /// Tokens `[batch, seq, hidden_size]` to the same.
    ///
    /// # Errors
    /// Those of [`try_attention`](crate::ops::try_attention).
    pub fn forward(
        &self,
        tokens: Tensor<3>,
        input: &AttentionInput,
    ) -> Result<Tensor<3>, AttentionError> {
        self.attend(self.project(tokens, input, None)?)
    }

    /// As [`forward`](Self::forward), of tokens that follow those in `cache`, where their keys and values
    /// are added.
    ///
    /// # Errors
    /// Those of [`forward`](Self::forward), and a cache without room.
    pub fn forward_cached(
        &self,
        tokens: Tensor<3>,
        input: &AttentionInput,
        cache: &mut LayerCache,
    ) -> Result<Tensor<3>, AttentionError> {
        self.attend(self.project(tokens, input, Some(cache))?)
    }

    /// The probabilities `[batch, heads, seq, seq]`: the whole map, to be looked at.
    ///
    /// # Errors
    /// Those of [`try_attention_rows`].
    pub fn probabilities(
        &self,
        tokens: Tensor<3>,
        input: &AttentionInput,
    ) -> Result<Tensor<4>, AttentionError> {
        let Projected {
            query,
            key,
            value,
            options,
        } = self.project(tokens, input, None)?;
        let rows: Vec<_> = (0..query.dims()[2]).collect();
        let attended = try_attention_with_lse(query.clone(), key.clone(), value, options.clone())?;
        let (_, lse) = self.with_sinks(attended)?;
        try_attention_rows(query, key, lse, &rows, options)
    }

    /// Queries, keys and values of the tokens, and of those in the cache.
    ///
    /// # Errors
    /// A cache without room.
    pub fn project(
        &self,
        tokens: Tensor<3>,
        input: &AttentionInput,
        cache: Option<&mut LayerCache>,
    ) -> Result<Projected, AttentionError> {
        let (heads, kv_heads) = (self.config.heads, self.config.kv_heads());
        let query = split_heads(self.query.forward(tokens.clone()), heads);
        let key = split_heads(self.key.forward(tokens.clone()), kv_heads);
        let value = split_heads(self.value.forward(tokens), kv_heads);
        let normalised = |norm: &Option<RmsNorm>, heads: Tensor<4>| match norm {
            Some(norm) => norm.forward(heads),
            None => heads,
        };
        let query = self.rotated(normalised(&self.query_norm, query), input)?;
        let key = self.rotated(normalised(&self.key_norm, key), input)?;
        let seen = match cache {
            Some(cache) => cache.append(key, value)?,
            None => VisibleKeys {
                key,
                value,
                padding: input.padding.clone(),
                in_order: true,
            },
        };
        let options = self.options(query.dims()[2], &seen);
        Ok(Projected {
            query,
            key: seen.key,
            value: seen.value,
            options,
        })
    }

    /// Attention and the projection of its output, `[batch, seq_q, hidden_size]`.
    ///
    /// # Errors
    /// Those of [`try_attention`](crate::ops::try_attention).
    pub fn attend(&self, projected: Projected) -> Result<Tensor<3>, AttentionError> {
        let Projected {
            query,
            key,
            value,
            options,
        } = projected;
        let heads = match &self.differential {
            Some(differential) => differential.attend([query, key, value], options)?,
            None if self.sinks.is_none() => try_attention(query, key, value, options)?,
            None => {
                let attended = try_attention_with_lse(query, key, value, options)?;
                self.with_sinks(attended)?.0
            }
        };
        let [batch, count, seq, width] = heads.dims();
        let heads = heads.swap_dims(1, 2).reshape([batch, seq, count * width]);
        Ok(self.output.forward(heads))
    }

    fn with_sinks(&self, attended: Attended) -> Result<Attended, AttentionError> {
        match &self.sinks {
            Some(sinks) => try_with_sinks(attended, sinks.val()),
            None => Ok(attended),
        }
    }

    fn rotated(
        &self,
        heads: Tensor<4>,
        input: &AttentionInput,
    ) -> Result<Tensor<4>, AttentionError> {
        let Some(rotary) = &self.rotary else {
            return Ok(heads);
        };
        let table = input.tables.iter().find(|(known, _)| known == rotary);
        let (_, table) = table.ok_or_else(|| AttentionError::Value {
            argument: "input",
            given: "without this attention's rotary positions".into(),
            accepted: "an input that was made for the attentions that it is given to".into(),
        })?;
        Ok(table.rotate(heads))
    }

    /// Scale, softcap, and what `seq_q` queries, the last tokens of `seen`, see of it.
    fn options(&self, seq_q: usize, seen: &VisibleKeys) -> AttentionOptions {
        let config = &self.config;
        let seq_kv = seen.key.dims()[2];
        let mut options = AttentionOptions::default();
        options.spec.scale = config.scale;
        options.spec.softcap = config.softcap;
        options.mask = seen.padding.clone();
        if !seen.in_order {
            return options;
        }
        // One query sees all keys that there are: it is the last.
        if config.causal && seq_q > 1 {
            options = options.with_causal(CausalAlignment::BottomRight);
        }
        let offset = seq_kv - seq_q;
        if let Some(window) = config.window
            && seq_kv > 1 + window.before.min(window.after)
            && !(config.causal && seq_kv <= 1 + window.before)
        {
            options = windowed(options, window, offset, [seq_q, seq_kv], &seen.key.device());
        }
        match &config.position {
            PositionEncoding::Alibi { slopes } => {
                sloped(options, slopes, offset, [seq_q, seq_kv], &seen.key)
            }
            _ => options,
        }
    }
}
