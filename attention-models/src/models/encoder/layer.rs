use attention_core::AttentionError;
use burn::module::Module;
use burn::nn::LayerNorm;
use burn::tensor::{Device, Tensor};

use super::{
    EncoderConfig, NormPlacement,
    attending::{Blind, context, probabilities},
    embeddings::layer_norm,
};
use crate::models::blocks::{AttentionInput, FeedForward, Projected, SelfAttention};

/// One layer: attention, then an MLP on each token, both beside a residual.
#[derive(Module, Debug)]
pub struct EncoderLayer {
    /// Self-attention.
    pub attention: SelfAttention,
    /// Of the attention branch; absent in ModernBERT's first layer.
    pub norm_attention: Option<LayerNorm>,
    /// On each token.
    pub mlp: FeedForward,
    /// Of the MLP branch.
    pub norm_mlp: LayerNorm,
    #[module(skip)]
    placement: NormPlacement,
}

/// What the tokens of a layer see of each other.
#[derive(Debug, Clone)]
pub(super) struct Sight {
    pub input: AttentionInput,
    pub blind: Blind,
}

impl EncoderLayer {
    pub(super) fn new(
        config: &EncoderConfig,
        layer: usize,
        device: &Device,
    ) -> Result<Self, AttentionError> {
        let norm = || layer_norm(config, config.hidden_size, device);
        Ok(Self {
            attention: config.attention(layer).try_init(device)?,
            norm_attention: (layer > 0 || config.first_norm).then(norm),
            mlp: config.feed_forward(device),
            norm_mlp: norm(),
            placement: config.norm_placement,
        })
    }

    /// `[batch, seq, hidden_size]` to the same.
    pub(super) fn forward(
        &self,
        tokens: Tensor<3>,
        sight: &Sight,
    ) -> Result<Tensor<3>, AttentionError> {
        let context = context(self.project(tokens.clone(), sight)?, &sight.blind)?;
        let tokens = tokens + self.attention.output.forward(context);
        Ok(match self.placement {
            NormPlacement::Before => {
                let mixed = self.mlp.forward(self.norm_mlp.forward(tokens.clone()));
                tokens + mixed
            }
            NormPlacement::After => {
                let tokens = self.normalised(tokens);
                let mixed = self.mlp.forward(tokens.clone());
                self.norm_mlp.forward(tokens + mixed)
            }
        })
    }

    /// `[batch, heads, seq, seq]`, of the layer's input.
    pub(super) fn probabilities(
        &self,
        tokens: Tensor<3>,
        sight: &Sight,
    ) -> Result<Tensor<4>, AttentionError> {
        probabilities(self.project(tokens, sight)?, &sight.blind)
    }

    fn project(&self, tokens: Tensor<3>, sight: &Sight) -> Result<Projected, AttentionError> {
        let tokens = match self.placement {
            NormPlacement::Before => self.normalised(tokens),
            NormPlacement::After => tokens,
        };
        self.attention.project(tokens, &sight.input, None)
    }

    fn normalised(&self, tokens: Tensor<3>) -> Tensor<3> {
        match &self.norm_attention {
            Some(norm) => norm.forward(tokens),
            None => tokens,
        }
    }
}
