use std::ops::Range;

use burn::module::{Initializer, Module, Param};
use burn::nn::{LayerNorm, LayerNormConfig, Linear, LinearConfig};
use burn::tensor::{
    Device, Tensor,
    activation::{gelu, sigmoid},
};

use super::{Activation, VisionTransformerConfig};
use crate::nn::{MhaInput, MultiHeadAttention, MultiHeadAttentionConfig, split_heads};
use crate::ops::{AttentionOptions, attention_rows, attention_with_lse};

/// One pre-norm layer: `x += scale * attention(norm(x))`, then `x += scale * mlp(norm(x))`.
#[derive(Module, Debug)]
pub struct EncoderLayer {
    /// Before attention.
    pub norm_attention: LayerNorm,
    /// Self-attention over all tokens.
    pub attention: MultiHeadAttention,
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
                .with_key_bias(config.qkv_bias)
                .with_value_bias(config.qkv_bias)
                .init(device),
            scale_attention: scale(),
            norm_mlp: norm(),
            mlp: Mlp {
                inner: LinearConfig::new(width, config.mlp_size).init(device),
                outer: LinearConfig::new(config.mlp_size, width).init(device),
                activation: config.activation,
            },
            scale_mlp: scale(),
        }
    }

    /// `[batch, tokens, hidden_size]` to the same.
    pub fn forward(&self, tokens: Tensor<3>) -> Tensor<3> {
        let normalised = self.norm_attention.forward(tokens.clone());
        let attended = self.attention.forward(MhaInput::self_attn(normalised));
        let tokens = tokens + scaled(attended, &self.scale_attention);
        let mixed = self.mlp.forward(self.norm_mlp.forward(tokens.clone()));
        tokens + scaled(mixed, &self.scale_mlp)
    }

    /// Who attends to whom in this layer, given the layer's input.
    pub fn attention_rows(&self, tokens: Tensor<3>) -> AttentionRows {
        let tokens = self.norm_attention.forward(tokens);
        let attention = &self.attention;
        let query = split_heads(attention.query.forward(tokens.clone()), attention.n_heads);
        let key = split_heads(attention.key.forward(tokens), attention.n_kv_heads);
        let options = AttentionOptions::default();
        let (_, lse) = attention_with_lse(query.clone(), key.clone(), key.clone(), options);
        AttentionRows { query, key, lse }
    }
}

impl AttentionRows {
    /// How much each token of `rows` attends to every token, `[batch, heads, rows, tokens]`: only these rows
    /// of the matrix exist. Without autodiff.
    pub fn probabilities(&self, rows: Range<usize>) -> Tensor<4> {
        let (query, key, lse) = (self.query.clone(), self.key.clone(), self.lse.clone());
        let rows: Vec<_> = rows.collect();
        attention_rows(query, key, lse, &rows, AttentionOptions::default())
    }
}

impl Mlp {
    /// `[batch, tokens, hidden_size]` to the same.
    pub fn forward(&self, tokens: Tensor<3>) -> Tensor<3> {
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
