use attention_core::{AttentionError, AttentionSpec, CausalAlignment};
use burn::module::Module;
use burn::nn::{LayerNorm, LayerNormConfig};
use burn::tensor::{Bool, Device, Tensor};

use super::{Attending, Blind, EncoderConfig, Mlp, NormPlacement, rotary::Rotary};
use crate::nn::{MultiHeadAttention, MultiHeadAttentionConfig};
use crate::ops::variants;

/// One layer: attention, then an MLP on each token, both beside a residual.
#[derive(Module, Debug)]
pub struct EncoderLayer {
    /// Self-attention.
    pub attention: MultiHeadAttention,
    /// Of the attention branch; absent in ModernBERT's first layer.
    pub norm_attention: Option<LayerNorm>,
    /// On each token.
    pub mlp: Mlp,
    /// Of the MLP branch.
    pub norm_mlp: LayerNorm,
    #[module(skip)]
    placement: NormPlacement,
}

/// What the tokens of one layer see of each other.
#[derive(Debug, Clone, Default)]
pub(super) struct Sight {
    /// `[batch, seq]`, `true` hides.
    pub padding: Option<Tensor<2, Bool>>,
    pub rotary: Option<Rotary>,
    /// Tokens that are seen on each side; all without.
    pub reach: Option<usize>,
}

impl EncoderLayer {
    pub(super) fn new(config: &EncoderConfig, layer: usize, device: &Device) -> Self {
        let norm = || {
            LayerNormConfig::new(config.hidden_size)
                .with_epsilon(config.norm_epsilon)
                .with_bias(config.norm_bias)
                .init(device)
        };
        let spec = AttentionSpec {
            causal: config.causal.then_some(CausalAlignment::TopLeft),
            ..AttentionSpec::default()
        };
        Self {
            attention: MultiHeadAttentionConfig::new(config.hidden_size, config.heads)
                .with_query_bias(config.attention_bias)
                .with_key_bias(config.attention_bias)
                .with_value_bias(config.attention_bias)
                .with_output_bias(config.attention_bias)
                .with_spec(spec)
                .init(device),
            norm_attention: (layer > 0 || config.first_norm).then(norm),
            mlp: Mlp::new(
                [config.hidden_size, config.mlp_size],
                config.activation,
                config.gated,
                config.mlp_bias,
                device,
            ),
            norm_mlp: norm(),
            placement: config.norm_placement,
        }
    }

    /// `[batch, seq, hidden_size]` to the same.
    pub(super) fn forward(
        &self,
        tokens: Tensor<3>,
        sight: &Sight,
    ) -> Result<Tensor<3>, AttentionError> {
        let context = self
            .attending(tokens.clone(), sight)
            .context(&sight.blind())?;
        let tokens = tokens + self.attention.output.forward(context);
        Ok(match self.placement {
            NormPlacement::Before => {
                let mixed = self.mlp.forward(self.norm_mlp.forward(tokens.clone()));
                tokens + mixed
            }
            NormPlacement::After => {
                let tokens = normalised(&self.norm_attention, tokens);
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
        self.attending(tokens, sight).probabilities(&sight.blind())
    }

    fn attending(&self, tokens: Tensor<3>, sight: &Sight) -> Attending {
        let tokens = match self.placement {
            NormPlacement::Before => normalised(&self.norm_attention, tokens),
            NormPlacement::After => tokens,
        };
        let mut attending = Attending::new(&self.attention, tokens.clone(), tokens)
            .with_padding(sight.padding.as_ref());
        if let Some(rotary) = &sight.rotary {
            attending.query = rotary.turn(attending.query);
            attending.key = rotary.turn(attending.key);
        }
        match sight.reach {
            Some(reach) => attending.with_options(|options| {
                let reach = reach.min(u32::MAX as usize) as u32;
                options.with_mask_mod(variants::sliding_window(reach, reach, 0))
            }),
            None => attending,
        }
    }
}

impl Sight {
    fn blind(&self) -> Blind {
        Blind::by(self.padding.as_ref())
    }
}

fn normalised(norm: &Option<LayerNorm>, tokens: Tensor<3>) -> Tensor<3> {
    match norm {
        Some(norm) => norm.forward(tokens),
        None => tokens,
    }
}
