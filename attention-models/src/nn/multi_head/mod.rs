//! Multi-head attention: `output(concat_h(attention(query_h, key_h, value_h)))`.

mod config;
mod input;

pub use config::MultiHeadAttentionConfig;
pub use input::MhaInput;

use attention_core::{AttentionError, AttentionShapes, AttentionSpec};
#[cfg(feature = "cube")]
use burn::tensor::{Distribution, Int};
use burn::{
    module::Module,
    nn::{Linear, attention},
    tensor::{Device, Tensor},
};

use crate::ops::{AttentionOptions, accept, try_attention};
#[cfg(feature = "cube")]
use crate::ops::{Engine, WeightMod, variants};
pub(super) use input::combined_mask;

/// Multi-head attention, self or cross, with grouped key and value heads, computed without storing
/// the attention probabilities.
///
/// Papers: Attention Is All You Need, <https://arxiv.org/abs/1706.03762>; grouped heads: GQA,
/// <https://arxiv.org/abs/2305.13245>.
///
/// ```
/// use attention_models::nn::{MhaInput, MultiHeadAttentionConfig};
/// use burn::tensor::{Device, Distribution, Tensor};
///
/// let device = Device::flex();
/// let attention = MultiHeadAttentionConfig::new(64, 4).init(&device);
/// let tokens = Tensor::<3>::random([2, 10, 64], Distribution::Default, &device);
/// let context = attention.forward(MhaInput::self_attn(tokens));
/// assert_eq!(context.dims(), [2, 10, 64]);
/// ```
#[derive(Module, Debug)]
pub struct MultiHeadAttention {
    /// `[d_model, n_heads * head_dim]`
    pub query: Linear,
    /// `[d_key, n_kv_heads * head_dim]`
    pub key: Linear,
    /// `[d_value, n_kv_heads * value_dim]`
    pub value: Linear,
    /// `[n_heads * value_dim, d_model]`
    pub output: Linear,
    /// Query heads.
    pub n_heads: usize,
    /// Key and value heads.
    pub n_kv_heads: usize,
    /// Causality, scale and softcap.
    #[module(skip)]
    pub spec: AttentionSpec,
    /// The probability with which an attention probability is dropped in training: where the
    /// input's device is an autodiff device.
    pub dropout: f64,
}

impl MultiHeadAttention {
    /// The context of every query, `[batch, seq_q, d_model]`.
    ///
    /// Shapes of the input: see [`MhaInput`]. A query that sees no key gets the output projection
    /// of 0.
    ///
    /// # Panics
    /// With the message of the error that [`try_forward`](Self::try_forward) returns.
    pub fn forward(&self, input: MhaInput) -> Tensor<3> {
        accept(self.try_forward(input))
    }

    /// [`forward`](Self::forward), refusing bad input with a typed error.
    ///
    /// # Errors
    /// Those of [`try_attention`], for the tensors of the input.
    pub fn try_forward(&self, input: MhaInput) -> Result<Tensor<3>, AttentionError> {
        self.try_forward_with(input, |query, key| (query, key))
    }

    /// [`try_forward`](Self::try_forward) with positions encoded into queries and keys: `encode`
    /// takes the projected queries `[batch, n_heads, seq_q, head_dim]` and keys
    /// `[batch, n_kv_heads, seq_kv, head_dim]` and returns them rotated.
    ///
    /// ```
    /// use attention_models::nn::{MhaInput, MultiHeadAttentionConfig};
    /// use burn::nn::RotaryEncodingConfig;
    /// use burn::tensor::{Device, Distribution, Tensor};
    ///
    /// let device = Device::flex();
    /// let attention = MultiHeadAttentionConfig::new(64, 4).init(&device);
    /// let rotary = RotaryEncodingConfig::new(128, 16).init(&device);
    /// let tokens = Tensor::<3>::random([2, 10, 64], Distribution::Default, &device);
    /// let context = attention.try_forward_with(MhaInput::self_attn(tokens), |query, key| {
    ///     (rotary.forward(query), rotary.forward(key))
    /// })?;
    /// assert_eq!(context.dims(), [2, 10, 64]);
    /// # Ok::<(), attention_models::ops::AttentionError>(())
    /// ```
    pub fn try_forward_with(
        &self,
        input: MhaInput,
        encode: impl FnOnce(Tensor<4>, Tensor<4>) -> (Tensor<4>, Tensor<4>),
    ) -> Result<Tensor<3>, AttentionError> {
        let projections = [&self.query, &self.key, &self.value];
        input.check(projections, self.shapes(&input))?;
        let dropout = self.sampled_dropout(&input.query.device())?;
        let query = split_heads(self.query.forward(input.query), self.n_heads);
        let key = split_heads(self.key.forward(input.key), self.n_kv_heads);
        let value = split_heads(self.value.forward(input.value), self.n_kv_heads);
        let (query, key) = encode(query, key);
        let options = AttentionOptions {
            spec: self.spec,
            mask: combined_mask(input.mask_pad, input.mask_attn),
            bias: input.bias,
            #[cfg(feature = "cube")]
            score_mod: input.score_mod,
            #[cfg(feature = "cube")]
            mask_mod: input.mask_mod,
            #[cfg(feature = "cube")]
            block_map: input.block_map,
            #[cfg(feature = "cube")]
            weight_mod: dropout,
            #[cfg(feature = "cube")]
            engine: Engine::Auto,
        };
        let context = try_attention(query, key, value, options)?;
        Ok(self.output.forward(merge_heads(context)))
    }

    /// Takes over the weights of Burn's own module.
    ///
    /// What differs afterwards: masks exclude keys exactly, where Burn's module adds `min_float` (a
    /// query without keys gets 0, where Burn's attends to all of them alike).
    ///
    /// # Errors
    /// [`AttentionError::Value`] for a module with `quiet_softmax`.
    ///
    /// ```
    /// use attention_models::nn::{MhaInput, MultiHeadAttention};
    /// use burn::nn::attention::{MhaInput as BurnInput, MultiHeadAttentionConfig};
    /// use burn::tensor::{Device, Distribution, Tensor, Tolerance};
    ///
    /// let device = Device::flex();
    /// let theirs = MultiHeadAttentionConfig::new(32, 4).init(&device);
    /// let ours = MultiHeadAttention::from_burn(theirs.clone())?;
    ///
    /// let tokens = Tensor::<3>::random([1, 6, 32], Distribution::Default, &device);
    /// let expected = theirs.forward(BurnInput::self_attn(tokens.clone())).context;
    /// let context = ours.forward(MhaInput::self_attn(tokens));
    /// context
    ///     .into_data()
    ///     .assert_approx_eq::<f32>(&expected.into_data(), Tolerance::absolute(1e-5));
    /// # Ok::<(), attention_models::ops::AttentionError>(())
    /// ```
    pub fn from_burn(module: attention::MultiHeadAttention) -> Result<Self, AttentionError> {
        if module.quiet_softmax {
            return Err(AttentionError::Value {
                argument: "quiet_softmax",
                given: "true".into(),
                accepted: "false".into(),
            });
        }
        Ok(Self {
            query: module.query,
            key: module.key,
            value: module.value,
            output: module.output,
            n_heads: module.n_heads,
            n_kv_heads: module.n_heads,
            spec: AttentionSpec::default(),
            dropout: module.dropout.prob,
        })
    }

    /// Dropout with a seed from the device's generator, in training.
    #[cfg(feature = "cube")]
    fn sampled_dropout(&self, device: &Device) -> Result<Option<WeightMod>, AttentionError> {
        if self.dropout == 0.0 || !device.is_autodiff() {
            return Ok(None);
        }
        let any = Distribution::Uniform(0.0, f64::from(i32::MAX));
        let seed = Tensor::<1, Int>::random([2], any, device);
        variants::dropout_seeded_by(self.dropout, seed).map(Some)
    }

    /// Only kernels can drop probabilities that are never stored.
    #[cfg(not(feature = "cube"))]
    fn sampled_dropout(&self, device: &Device) -> Result<(), AttentionError> {
        if self.dropout == 0.0 || !device.is_autodiff() {
            return Ok(());
        }
        Err(AttentionError::Value {
            argument: "dropout",
            given: self.dropout.to_string(),
            accepted: "0 without the kernels of feature `cube`".into(),
        })
    }

    /// The shapes after projection; the masks are checked as they are given.
    fn shapes(&self, input: &MhaInput) -> AttentionShapes {
        let [batch, seq_q, _] = input.query.dims();
        let [_, seq_kv, _] = input.key.dims();
        let width = |linear: &Linear, heads: usize| linear.weight.dims()[1] / heads;
        AttentionShapes {
            query: [batch, self.n_heads, seq_q, width(&self.query, self.n_heads)],
            key: [
                batch,
                self.n_kv_heads,
                seq_kv,
                width(&self.key, self.n_kv_heads),
            ],
            value: [
                batch,
                self.n_kv_heads,
                seq_kv,
                width(&self.value, self.n_kv_heads),
            ],
            mask: None,
            bias: input.bias.as_ref().map(|bias| bias.dims()),
        }
    }
}

/// `[batch, seq, heads * dim]` seen as `[batch, heads, seq, dim]`, without a copy.
pub(crate) fn split_heads(tensor: Tensor<3>, heads: usize) -> Tensor<4> {
    let [batch, seq, width] = tensor.dims();
    tensor
        .reshape([batch, seq, heads, width / heads])
        .swap_dims(1, 2)
}

/// `[batch, heads, seq, dim]` as `[batch, seq, heads * dim]`.
pub(crate) fn merge_heads(tensor: Tensor<4>) -> Tensor<3> {
    let [batch, heads, seq, dim] = tensor.dims();
    tensor.swap_dims(1, 2).reshape([batch, seq, heads * dim])
}
