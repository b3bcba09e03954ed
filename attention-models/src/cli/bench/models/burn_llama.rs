//! A Llama made of Burn's own modules, to compare ours with: the same weights, Burn's attention, and
//! keys and values that are concatenated at each step, as Burn's caches do it.

use anyhow::{Result, bail};
use attention_core::AttentionError;
use burn::module::Param;
use burn::nn::{
    Embedding, Linear, RmsNorm, RmsNormConfig, RotaryEncoding, RotaryEncodingConfig, SwiGlu,
};
use burn::tensor::{Device, Int, Tensor, module::linear};

use crate::models::{
    blocks::{FeedForward, Norm, NormConfig, PositionEncoding},
    decoder::{Decoder, DecoderLayer},
    generation::{GenerationState, LanguageModel},
};
use crate::nn::{merge_heads, split_heads};
use crate::ops::{AttentionOptions, CausalAlignment, comparison::burn_attention};

/// See the [module](self).
pub struct BurnLlama {
    embedding: Embedding,
    layers: Vec<Layer>,
    norm: RmsNorm,
    rotary: RotaryEncoding,
}

struct Layer {
    norm_attention: RmsNorm,
    query: Linear,
    key: Linear,
    value: Linear,
    output: Linear,
    heads: usize,
    kv_heads: usize,
    norm_mlp: RmsNorm,
    gated: SwiGlu,
    down: Linear,
}

/// Keys and values of each layer, `[batch, kv_heads, seq, head_dim]`.
#[derive(Clone)]
pub struct Cache(Vec<Option<[Tensor<4>; 2]>>);

impl GenerationState for Cache {
    fn select(&mut self, rows: &[usize]) {
        assert_eq!(rows, [0], "invariant: one sequence is compared");
    }
}

impl BurnLlama {
    /// With the weights of `model`, for so many positions.
    ///
    /// # Errors
    /// A model that is no Llama with embeddings for its head.
    pub fn like(model: &Decoder, positions: usize) -> Result<Self> {
        let Some(PositionEncoding::Rotary(rotary)) = model
            .config()
            .layers
            .first()
            .map(|layer| &layer.attention.position)
        else {
            bail!("a model without rotary positions is no Llama");
        };
        let device = model.device();
        let rotary_config = RotaryEncodingConfig::new(positions, rotary.head_dim);
        let epsilon = model.config().norm;
        Ok(Self {
            embedding: model.embedding.clone(),
            layers: model
                .layers
                .iter()
                .map(|layer| Layer::like(layer, epsilon))
                .collect::<Result<_>>()?,
            norm: rms_norm(&model.norm, epsilon)?,
            rotary: rotary_config.with_theta(rotary.theta as f32).init(&device),
        })
    }

    /// Of no tokens.
    pub fn cache(&self) -> Cache {
        Cache(vec![None; self.layers.len()])
    }
}

impl LanguageModel for BurnLlama {
    type State = Cache;

    fn next_logits(
        &self,
        tokens: Tensor<2, Int>,
        cache: &mut Cache,
    ) -> Result<Tensor<2>, AttentionError> {
        let new = tokens.dims()[1];
        let mut hidden = self.embedding.forward(tokens);
        for (layer, cache) in self.layers.iter().zip(&mut cache.0) {
            hidden = layer.forward(hidden, &self.rotary, cache)?;
        }
        let last = hidden.slice_dim(1, new - 1..new);
        let weights = self.embedding.weight.val().transpose();
        Ok(linear(self.norm.forward(last), weights, None).squeeze_dim::<2>(1))
    }

    fn device(&self) -> Device {
        self.embedding.weight.device()
    }
}

impl Layer {
    fn like(layer: &DecoderLayer, epsilon: NormConfig) -> Result<Self> {
        let (FeedForward::Gated(mlp), Some(norm_mlp)) = (&layer.mlp, &layer.norm_mlp) else {
            bail!("a layer without a gated MLP is no Llama's");
        };
        let attention = &layer.attention;
        let (heads, kv_heads) = (attention.config().heads, attention.config().kv_heads());
        Ok(Self {
            norm_attention: rms_norm(&layer.norm_attention, epsilon)?,
            query: interleaved(&attention.query, heads),
            key: interleaved(&attention.key, kv_heads),
            value: attention.value.clone(),
            output: attention.output.clone(),
            heads,
            kv_heads,
            norm_mlp: rms_norm(norm_mlp, epsilon)?,
            gated: SwiGlu {
                linear_inner: mlp.gate.clone(),
                linear_outer: mlp.inner.clone(),
            },
            down: mlp.outer.clone(),
        })
    }

    fn forward(
        &self,
        tokens: Tensor<3>,
        rotary: &RotaryEncoding,
        cache: &mut Option<[Tensor<4>; 2]>,
    ) -> Result<Tensor<3>, AttentionError> {
        let normalised = self.norm_attention.forward(tokens.clone());
        let start = cache.as_ref().map_or(0, |[key, _]| key.dims()[2]);
        let query = split_heads(self.query.forward(normalised.clone()), self.heads);
        let key = split_heads(self.key.forward(normalised.clone()), self.kv_heads);
        let value = split_heads(self.value.forward(normalised), self.kv_heads);
        let query = rotary.apply(query, start);
        let new = [rotary.apply(key, start), value];
        let [key, value] = match cache.take() {
            Some([key, value]) => {
                let [new_key, new_value] = new;
                [vec![key, new_key], vec![value, new_value]].map(|parts| Tensor::cat(parts, 2))
            }
            None => new,
        };
        *cache = Some([key.clone(), value.clone()]);
        let options = AttentionOptions::default().with_causal(CausalAlignment::BottomRight);
        let attended = burn_attention(query, key, value, options)?;
        let tokens = tokens + self.output.forward(merge_heads(attended));
        let normalised = self.norm_mlp.forward(tokens.clone());
        Ok(tokens + self.down.forward(self.gated.forward(normalised)))
    }
}

fn rms_norm(norm: &Norm, epsilon: NormConfig) -> Result<RmsNorm> {
    let (Norm::Rms(norm), NormConfig::Rms { epsilon, .. }) = (norm, epsilon) else {
        bail!("a model with another norm than RMSNorm is no Llama");
    };
    let gamma = norm.gamma.val();
    let config = RmsNormConfig::new(gamma.dims()[0]).with_epsilon(epsilon);
    let mut norm = config.init(&gamma.device());
    norm.gamma = Param::from_tensor(gamma);
    Ok(norm)
}

/// Burn rotates the columns `2 i` and `2 i + 1` of a head, a Llama `i` and `i + head_dim / 2`.
fn interleaved(projection: &Linear, heads: usize) -> Linear {
    let weight = projection.weight.val();
    let [inputs, outputs] = weight.dims();
    let pairs = outputs / heads / 2;
    let weight = weight
        .reshape([inputs, heads, 2, pairs])
        .swap_dims(2, 3)
        .reshape([inputs, outputs]);
    Linear {
        weight: Param::from_tensor(weight),
        bias: None,
    }
}
