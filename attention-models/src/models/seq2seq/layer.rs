use attention_core::AttentionError;
use burn::module::Module;
use burn::tensor::{Bool, Device, Tensor};

use super::{Seq2SeqConfig, StackConfig, relative::Relative};
use crate::models::blocks::{FeedForward, Norm};
use crate::models::cache::{LayerCache, VisibleKeys};
use crate::models::encoder::NormPlacement;
use crate::nn::{MultiHeadAttention, split_heads};
use crate::ops::{AttentionOptions, try_attention, try_attention_rows, try_attention_with_lse};

/// One layer: self-attention, in a decoder attention to the source, then an MLP on each token, each beside a residual.
#[derive(Module, Debug)]
pub struct Seq2SeqLayer {
    /// Among the tokens of one side.
    pub attention: MultiHeadAttention,
    /// Of that branch.
    pub norm_attention: Norm,
    /// From the target to the source.
    pub cross_attention: Option<MultiHeadAttention>,
    /// Of that branch.
    pub norm_cross: Option<Norm>,
    /// On each token.
    pub mlp: FeedForward,
    /// Of that branch.
    pub norm_mlp: Norm,
    #[module(skip)]
    placement: NormPlacement,
}

/// What a layer is given beside its tokens.
#[derive(Debug, Clone, Default)]
pub(super) struct LayerInput {
    /// Padding of the tokens themselves, `[batch, 1, 1, seq]`, `true` hides.
    pub padding: Option<Tensor<4, Bool>>,
    pub relative: Option<Relative>,
}

/// Keys and values of the source for one layer.
#[derive(Debug, Clone)]
pub(super) struct SourceKeys {
    /// `[batch, heads, source, head_dim]`
    pub key: Tensor<4>,
    /// `[batch, heads, source, head_dim]`
    pub value: Tensor<4>,
    /// `[batch, 1, 1, source]`, `true` hides.
    pub padding: Option<Tensor<4, Bool>>,
}

impl Seq2SeqLayer {
    pub(super) fn new(
        config: &Seq2SeqConfig,
        stack: &StackConfig,
        decodes: bool,
        device: &Device,
    ) -> Result<Self, AttentionError> {
        let cross = || config.attention(stack.heads, false, device);
        Ok(Self {
            attention: config.attention(stack.heads, decodes, device)?,
            norm_attention: config.norm(device),
            cross_attention: decodes.then(cross).transpose()?,
            norm_cross: decodes.then(|| config.norm(device)),
            mlp: config.feed_forward(stack.mlp_size, device),
            norm_mlp: config.norm(device),
            placement: config.norm_placement,
        })
    }

    /// `[batch, seq, hidden_size]` to the same. With a cache, the tokens follow those in it.
    pub(super) fn forward(
        &self,
        tokens: Tensor<3>,
        input: &LayerInput,
        source: Option<&SourceKeys>,
        cache: Option<&mut LayerCache>,
    ) -> Result<Tensor<3>, AttentionError> {
        let mut tokens = self.after_self_attention(tokens, input, cache)?;
        if let (Some(attention), Some(norm), Some(source)) =
            (&self.cross_attention, &self.norm_cross, source)
        {
            tokens = self.branch(norm, tokens, |tokens| {
                let query = split_heads(attention.query.forward(tokens), attention.n_heads);
                let (key, value) = (source.key.clone(), source.value.clone());
                let context = try_attention(query, key, value, source.options(attention))?;
                Ok(attention.output.forward(merge_heads(context)))
            })?;
        }
        self.branch(&self.norm_mlp, tokens, |tokens| {
            Ok(self.mlp.forward(tokens))
        })
    }

    /// Keys and values of the source, `[batch, source, hidden_size]`, where the layer attends to it.
    pub(super) fn source_keys(
        &self,
        source: &Tensor<3>,
        padding: Option<&Tensor<4, Bool>>,
    ) -> Option<SourceKeys> {
        let attention = self.cross_attention.as_ref()?;
        let heads = |tokens| split_heads(tokens, attention.n_kv_heads);
        Some(SourceKeys {
            key: heads(attention.key.forward(source.clone())),
            value: heads(attention.value.forward(source.clone())),
            padding: padding.cloned(),
        })
    }

    /// How much each token attends to each of the source, `[batch, heads, seq, source]`, of the layer's input.
    pub(super) fn cross_probabilities(
        &self,
        tokens: Tensor<3>,
        input: &LayerInput,
        source: &SourceKeys,
    ) -> Result<Option<Tensor<4>>, AttentionError> {
        let tokens = self.after_self_attention(tokens, input, None)?;
        let (Some(attention), Some(norm)) = (&self.cross_attention, &self.norm_cross) else {
            return Ok(None);
        };
        let tokens = match self.placement {
            NormPlacement::Before => norm.forward(tokens),
            NormPlacement::After => tokens,
        };
        let query = split_heads(attention.query.forward(tokens), attention.n_heads);
        let (key, value) = (source.key.clone(), source.value.clone());
        let options = source.options(attention);
        let (_, lse) = try_attention_with_lse(query.clone(), key.clone(), value, options.clone())?;
        let all: Vec<_> = (0..query.dims()[2]).collect();
        try_attention_rows(query, key, lse, &all, options).map(Some)
    }

    fn after_self_attention(
        &self,
        tokens: Tensor<3>,
        input: &LayerInput,
        cache: Option<&mut LayerCache>,
    ) -> Result<Tensor<3>, AttentionError> {
        self.branch(&self.norm_attention, tokens, |tokens| {
            let attention = &self.attention;
            let heads = |tokens| split_heads(tokens, attention.n_heads);
            let query = heads(attention.query.forward(tokens.clone()));
            let key = heads(attention.key.forward(tokens.clone()));
            let value = heads(attention.value.forward(tokens));
            let seen = match cache {
                Some(cache) => cache.append(key, value)?,
                None => VisibleKeys {
                    key,
                    value,
                    padding: input.padding.clone(),
                    in_order: true,
                },
            };
            let mut options = AttentionOptions::from(attention.spec);
            options.mask = seen.padding;
            if let Some(relative) = &input.relative {
                let offset = seen.key.dims()[2] - query.dims()[2];
                options = relative.added_to(options, offset);
            }
            let context = try_attention(query, seen.key, seen.value, options)?;
            Ok(attention.output.forward(merge_heads(context)))
        })
    }

    /// `f` beside a residual, with the norm before or after.
    fn branch(
        &self,
        norm: &Norm,
        tokens: Tensor<3>,
        f: impl FnOnce(Tensor<3>) -> Result<Tensor<3>, AttentionError>,
    ) -> Result<Tensor<3>, AttentionError> {
        Ok(match self.placement {
            NormPlacement::Before => tokens.clone() + f(norm.forward(tokens))?,
            NormPlacement::After => norm.forward(tokens.clone() + f(tokens)?),
        })
    }
}

impl SourceKeys {
    fn options(&self, attention: &MultiHeadAttention) -> AttentionOptions {
        let mut options = AttentionOptions::from(attention.spec);
        options.mask = self.padding.clone();
        options
    }
}

/// `[batch, heads, seq, dim]` as `[batch, seq, heads * dim]`.
fn merge_heads(heads: Tensor<4>) -> Tensor<3> {
    let [batch, count, seq, width] = heads.dims();
    heads.swap_dims(1, 2).reshape([batch, seq, count * width])
}
