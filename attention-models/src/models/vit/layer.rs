use std::ops::Range;

use burn::module::{Initializer, Module, Param};
use burn::nn::{LayerNorm, LayerNormConfig, Linear, LinearConfig};
use burn::tensor::{Device, Tensor, activation::sigmoid};

use super::{Activation, PositionTable, RelativePositions, VisionTransformerConfig};
use crate::models::blocks::gelu;
use crate::nn::{MhaInput, MultiHeadAttention, MultiHeadAttentionConfig, split_heads};
use crate::ops::{AttentionOptions, ScoreMod, attention_rows, attention_with_lse};

/// One pre-norm layer: `x += scale * attention(norm(x))`, then `x += scale * mlp(norm(x))`.
#[derive(Module, Debug)]
pub struct EncoderLayer {
    /// Before attention.
    pub norm_attention: LayerNorm,
    /// Self-attention over all tokens.
    pub attention: MultiHeadAttention,
    /// Terms of attention for offsets between patches.
    pub position_table: Option<PositionTable>,
    /// LayerScale of the attention branch, `[hidden_size]`.
    pub scale_attention: Option<Param<Tensor<1>>>,
    /// Before the MLP.
    pub norm_mlp: LayerNorm,
    /// On each token.
    pub mlp: Mlp,
    /// LayerScale of the MLP branch, `[hidden_size]`.
    pub scale_mlp: Option<Param<Tensor<1>>>,
}

/// Two linear layers with a nonlinearity between them.
#[derive(Module, Debug)]
pub struct Mlp {
    /// `hidden_size -> mlp_size`
    pub inner: Linear,
    /// `mlp_size -> hidden_size`
    pub outer: Linear,
    #[module(skip)]
    activation: Activation,
}

/// The attention probabilities of one layer, computed for the rows that are asked for.
#[derive(Debug, Clone)]
pub struct AttentionRows {
    /// `[batch, heads, tokens, head_dim]`
    query: Tensor<4>,
    /// `[batch, heads, tokens, head_dim]`
    key: Tensor<4>,
    /// `[batch, heads, tokens]`
    lse: Tensor<3>,
    options: AttentionOptions,
}

impl EncoderLayer {
    pub(super) fn new(config: &VisionTransformerConfig, device: &Device) -> Self {
        let width = config.hidden_size;
        let norm = || {
            LayerNormConfig::new(width)
                .with_epsilon(config.norm_epsilon)
                .init(device)
        };
        let scale = || {
            let value = config.layer_scale?;
            Some(Initializer::Constant { value }.init([width], device))
        };
        Self {
            norm_attention: norm(),
            attention: MultiHeadAttentionConfig::new(width, config.heads)
                .with_query_bias(config.qkv_bias)
                .with_key_bias(config.qkv_bias && config.key_bias)
                .with_value_bias(config.qkv_bias)
                .init(device),
            position_table: (config.relative_positions == RelativePositions::PerLayer)
                .then(|| PositionTable::new(config, device)),
            scale_attention: scale(),
            norm_mlp: norm(),
            mlp: Mlp::new(width, config.mlp_size, config.activation, device),
            scale_mlp: scale(),
        }
    }

    /// `[batch, tokens, hidden_size]` to the same; `shared` are the terms that all layers share.
    pub fn forward(&self, tokens: Tensor<3>, shared: Option<&PositionTable>) -> Tensor<3> {
        let mut input = MhaInput::self_attn(self.norm_attention.forward(tokens.clone()));
        input.score_mod = self.score_mod(shared);
        let attended = self.attention.forward(input);
        let tokens = tokens + scaled(attended, &self.scale_attention);
        let mixed = self.mlp.forward(self.norm_mlp.forward(tokens.clone()));
        tokens + scaled(mixed, &self.scale_mlp)
    }

    /// Who attends to whom in this layer, given the layer's input.
    pub fn attention_rows(
        &self,
        tokens: Tensor<3>,
        shared: Option<&PositionTable>,
    ) -> AttentionRows {
        let tokens = self.norm_attention.forward(tokens);
        let attention = &self.attention;
        let query = split_heads(attention.query.forward(tokens.clone()), attention.n_heads);
        let key = split_heads(attention.key.forward(tokens), attention.n_kv_heads);
        let options = match self.score_mod(shared) {
            Some(score_mod) => AttentionOptions::default().with_score_mod(score_mod),
            None => AttentionOptions::default(),
        };
        let (_, lse) = attention_with_lse(query.clone(), key.clone(), key.clone(), options.clone());
        AttentionRows {
            query,
            key,
            lse,
            options,
        }
    }

    /// What is added to the scores.
    fn score_mod(&self, shared: Option<&PositionTable>) -> Option<ScoreMod> {
        let tables = shared.into_iter().chain(&self.position_table);
        tables.map(PositionTable::score_mod).reduce(ScoreMod::then)
    }
}

impl AttentionRows {
    /// How much each token of `rows` attends to every token, `[batch, heads, rows, tokens]`: only these rows
    /// of the matrix exist. Without autodiff.
    pub fn probabilities(&self, rows: Range<usize>) -> Tensor<4> {
        let (query, key, lse) = (self.query.clone(), self.key.clone(), self.lse.clone());
        let rows: Vec<_> = rows.collect();
        attention_rows(query, key, lse, &rows, self.options.clone())
    }
}

impl Mlp {
    pub(in crate::models) fn new(
        width: usize,
        inner: usize,
        activation: Activation,
        device: &Device,
    ) -> Self {
        Self {
            inner: LinearConfig::new(width, inner).init(device),
            outer: LinearConfig::new(inner, width).init(device),
            activation,
        }
    }

    /// `[batch, ..., hidden_size]` to the same.
    pub fn forward<const D: usize>(&self, tokens: Tensor<D>) -> Tensor<D> {
        let inner = self.inner.forward(tokens);
        let inner = match self.activation {
            Activation::Gelu => gelu(inner),
            Activation::QuickGelu => inner.clone() * sigmoid(inner.mul_scalar(1.702)),
        };
        self.outer.forward(inner)
    }
}

fn scaled(branch: Tensor<3>, scale: &Option<Param<Tensor<1>>>) -> Tensor<3> {
    match scale {
        Some(scale) => branch * scale.val().unsqueeze(),
        None => branch,
    }
}
