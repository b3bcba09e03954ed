use attention_core::{AttentionError, CausalAlignment, MAX_HEAD_DIM};
use burn::config::Config;
use burn::module::{Initializer, Module, Param};
use burn::nn::{Linear, LinearConfig};
use burn::tensor::{Bool, Device, Tensor};
use serde::{Deserialize, Serialize};

use super::{
    DifferentialHeads, Positions, RmsNorm, RmsNormConfig, Rotary, RotaryConfig, RotaryTable,
};
use crate::models::cache::{LayerCache, VisibleKeys};
use crate::nn::split_heads;
use crate::ops::{
    Attended, AttentionOptions, try_attention_rows, try_attention_with_lse, try_with_sinks,
};

/// How attention learns where a token stands.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PositionEncoding {
    /// Not by itself: positions were added to the tokens, or there are none.
    #[default]
    None,
    /// Queries and keys are rotated.
    Rotary(RotaryConfig),
    /// Scores fall with the distance, by a slope for each head (Press et al. 2021,
    /// <https://arxiv.org/abs/2108.12409>).
    Alibi {
        /// For each head.
        slopes: Vec<f32>,
    },
}

/// How far a token sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Window {
    /// Tokens to the left; Mistral's window of `w` tokens, the token itself among them, is `w - 1`.
    pub before: usize,
    /// Tokens to the right.
    pub after: usize,
}

/// Sizes and variants of a [`SelfAttention`].
#[derive(Config, Debug, PartialEq)]
pub struct SelfAttentionConfig {
    /// Width of a token.
    pub hidden_size: usize,
    /// Heads of the queries.
    pub heads: usize,
    /// Heads of keys and values, which divide `heads`; as many without it.
    #[config(default = "None")]
    pub kv_heads: Option<usize>,
    /// Width of a head; `hidden_size / heads` without it.
    #[config(default = "None")]
    pub head_dim: Option<usize>,
    /// Whether the projections to queries, keys and values have biases.
    #[config(default = false)]
    pub input_bias: bool,
    /// Whether the projection of the output has a bias.
    #[config(default = false)]
    pub output_bias: bool,
    /// A norm of each head's queries and keys, with epsilon and offset of an [`RmsNorm`].
    #[config(default = "None")]
    pub head_norm: Option<(f64, f64)>,
    /// The factor on products; `1 / sqrt(head_dim)` without it.
    #[config(default = "None")]
    pub scale: Option<f64>,
    /// Scores are squashed to this magnitude.
    #[config(default = "None")]
    pub softcap: Option<f64>,
    /// Whether a token sees only those before it, and itself.
    #[config(default = false)]
    pub causal: bool,
    /// How far a token sees; to the ends without it.
    #[config(default = "None")]
    pub window: Option<Window>,
    /// How attention learns where a token stands.
    #[config(default = "PositionEncoding::None")]
    pub position: PositionEncoding,
    /// Whether each head has a learned sink, a logit without a value.
    #[config(default = false)]
    pub sinks: bool,
    /// Differential attention, with its `lambda_init` and the epsilon of its norm.
    #[config(default = "None")]
    pub differential: Option<(f64, f64)>,
}

impl SelfAttentionConfig {
    /// Heads of keys and values.
    pub fn kv_heads(&self) -> usize {
        self.kv_heads.unwrap_or(self.heads)
    }

    /// Width of a head.
    pub fn head_dim(&self) -> usize {
        self.head_dim.unwrap_or(self.hidden_size / self.heads.max(1))
    }

    /// Refuses sizes from which no attention can be made.
    ///
    /// # Errors
    /// [`AttentionError::Value`] naming the field.
    pub fn validate(&self) -> Result<(), AttentionError> {
        let refuse = |argument, given: usize, accepted: String| {
            Err(AttentionError::Value {
                argument,
                given: given.to_string(),
                accepted,
            })
        };
        let (heads, kv_heads, head_dim) = (self.heads, self.kv_heads(), self.head_dim());
        if heads == 0 || self.head_dim.is_none() && !self.hidden_size.is_multiple_of(heads) {
            let accepted = format!("a divisor of the hidden size {}", self.hidden_size);
            return refuse("heads", heads, accepted);
        }
        if kv_heads == 0 || !heads.is_multiple_of(kv_heads) {
            return refuse("kv_heads", kv_heads, format!("a divisor of the {heads} heads"));
        }
        if self.differential.is_some() && !kv_heads.is_multiple_of(2) {
            return refuse("kv_heads", kv_heads, "an even number, for two maps".into());
        }
        if head_dim == 0 || head_dim > MAX_HEAD_DIM {
            return refuse("head_dim", head_dim, format!("1 to {MAX_HEAD_DIM}"));
        }
        match &self.position {
            PositionEncoding::Rotary(rotary) => rotary.try_init().map(|_| ()),
            PositionEncoding::Alibi { slopes } if slopes.len() != heads => {
                refuse("slopes", slopes.len(), format!("one for each of {heads} heads"))
            }
            _ => Ok(()),
        }
    }

    /// Attention with random weights.
    ///
    /// # Panics
    /// Panics with the message of [`validate`](Self::validate) where that refuses.
    pub fn init(&self, device: &Device) -> SelfAttention {
        self.try_init(device)
            .unwrap_or_else(|error| panic!("{error}"))
    }

    /// As [`init`](Self::init).
    ///
    /// # Errors
    /// Sizes that [`validate`](Self::validate) refuses.
    pub fn try_init(&self, device: &Device) -> Result<SelfAttention, AttentionError> {
        self.validate()?;
        let (heads, kv_heads, head_dim) = (self.heads, self.kv_heads(), self.head_dim());
        let linear = |from, to, bias| LinearConfig::new(from, to).with_bias(bias).init(device);
        let input = |heads: usize| linear(self.hidden_size, heads * head_dim, self.input_bias);
        let head_norm = || {
            let (epsilon, offset) = self.head_norm?;
            let config = RmsNormConfig::new(head_dim).with_epsilon(epsilon);
            Some(config.with_offset(offset).init(device))
        };
        let rotary = match &self.position {
            PositionEncoding::Rotary(rotary) => Some(rotary.try_init()?),
            _ => None,
        };
        Ok(SelfAttention {
            query: input(heads),
            key: input(kv_heads),
            value: input(kv_heads),
            output: linear(heads * head_dim, self.hidden_size, self.output_bias),
            query_norm: head_norm(),
            key_norm: head_norm(),
            sinks: self
                .sinks
                .then(|| Initializer::Zeros.init([heads], device)),
            differential: self.differential.map(|(lambda_init, epsilon)| {
                DifferentialHeads::new(head_dim, lambda_init, epsilon, device)
            }),
            rotary,
            config: self.clone(),
        })
    }
}

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
        let attended =
            try_attention_with_lse(query.clone(), key.clone(), value, options.clone())?;
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
        let query = self.rotated(normalised(&self.query_norm, query), input);
        let key = self.rotated(normalised(&self.key_norm, key), input);
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

    fn rotated(&self, heads: Tensor<4>, input: &AttentionInput) -> Tensor<4> {
        let Some(rotary) = &self.rotary else {
            return heads;
        };
        let table = input.tables.iter().find(|(known, _)| known == rotary);
        let (_, table) = table.expect("the input must be made for the attentions that it is given to");
        table.rotate(heads)
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

/// Hides the keys outside of a window around each query, the first of which is at `offset`.
#[cfg(feature = "cube")]
fn windowed(
    options: AttentionOptions,
    window: Window,
    offset: usize,
    _lengths: [usize; 2],
    _device: &Device,
) -> AttentionOptions {
    let [before, after] = [window.before, window.after].map(|reach| reach as u32);
    let mask = crate::ops::variants::sliding_window(before, after, offset as u32);
    options.with_mask_mod(mask)
}

#[cfg(not(feature = "cube"))]
fn windowed(
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
    let data = burn::tensor::TensorData::new(hidden.collect(), [1, 1, seq_q, seq_kv]);
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
fn sloped(
    options: AttentionOptions,
    slopes: &[f32],
    offset: usize,
    _lengths: [usize; 2],
    key: &Tensor<4>,
) -> AttentionOptions {
    let slopes = Tensor::<1>::from_data(slopes, &key.device());
    options.with_score_mod(crate::ops::variants::alibi(slopes, offset as u32))
}

#[cfg(not(feature = "cube"))]
fn sloped(
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
    let data = burn::tensor::TensorData::new(terms.collect(), shape);
    let bias = Tensor::<4>::from_data(data, &key.device()).cast(key.dtype());
    options.with_bias(bias)
}
