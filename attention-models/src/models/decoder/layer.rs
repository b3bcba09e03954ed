use attention_core::AttentionError;
use burn::module::Module;
use burn::tensor::{Device, Tensor};

use super::{DecoderLayerConfig, Residual};
use crate::models::blocks::{AttentionInput, FeedForward, Norm, SelfAttention};
use crate::models::cache::LayerCache;

/// Self-attention and an MLP; [`Residual`] says how they are added.
#[derive(Module, Debug)]
pub struct DecoderLayer {
    /// Before attention.
    pub norm_attention: Norm,
    /// Over the tokens up to each.
    pub attention: SelfAttention,
    /// After attention.
    pub norm_attention_output: Option<Norm>,
    /// Before the MLP.
    pub norm_mlp: Option<Norm>,
    /// On each token.
    pub mlp: FeedForward,
    /// After the MLP.
    pub norm_mlp_output: Option<Norm>,
    #[module(skip)]
    residual: Residual,
}

impl DecoderLayer {
    pub(super) fn new(
        config: &DecoderLayerConfig,
        device: &Device,
    ) -> Result<Self, AttentionError> {
        let norm = || config.norm.init(config.attention.hidden_size, device);
        let residual = config.residual;
        let sandwich = residual == Residual::Sandwich;
        Ok(Self {
            norm_attention: norm(),
            attention: config.attention.try_init(device)?,
            norm_attention_output: sandwich.then(norm),
            norm_mlp: (residual != Residual::ParallelOneNorm).then(norm),
            mlp: config.feed_forward.init(device),
            norm_mlp_output: sandwich.then(norm),
            residual,
        })
    }

    /// Tokens `[batch, seq, hidden_size]` to the same, after those in `cache`, if there is one.
    ///
    /// # Errors
    /// Those of [`SelfAttention::forward_cached`].
    pub fn forward(
        &self,
        tokens: Tensor<3>,
        input: &AttentionInput,
        cache: Option<&mut LayerCache>,
    ) -> Result<Tensor<3>, AttentionError> {
        let normalised = self.norm_attention.forward(tokens.clone());
        let attended = match cache {
            Some(cache) => self
                .attention
                .forward_cached(normalised.clone(), input, cache)?,
            None => self.attention.forward(normalised.clone(), input)?,
        };
        let attended = tokens.clone() + apply(&self.norm_attention_output, attended);
        let to_mix = match self.residual {
            Residual::Sequential | Residual::Sandwich => apply(&self.norm_mlp, attended.clone()),
            Residual::Parallel => apply(&self.norm_mlp, tokens),
            Residual::ParallelOneNorm => normalised,
        };
        let mixed = self.mlp.forward(to_mix);
        Ok(attended + apply(&self.norm_mlp_output, mixed))
    }

    /// Who attends to whom, `[batch, heads, seq, seq]`, given the layer's input.
    ///
    /// # Errors
    /// Those of [`SelfAttention::probabilities`].
    pub fn attention_probabilities(
        &self,
        tokens: Tensor<3>,
        input: &AttentionInput,
    ) -> Result<Tensor<4>, AttentionError> {
        let tokens = self.norm_attention.forward(tokens);
        self.attention.probabilities(tokens, input)
    }
}

fn apply(norm: &Option<Norm>, tokens: Tensor<3>) -> Tensor<3> {
    match norm {
        Some(norm) => norm.forward(tokens),
        None => tokens,
    }
}
