//! Differential attention: `output(concat_h((1 - lambda_init) norm(map1_h - lambda map2_h)))`.

mod config;

pub use config::DifferentialAttentionConfig;

use attention_core::{AttentionError, AttentionShapes, AttentionSpec};
use burn::{
    module::{Module, Param},
    nn::Linear,
    tensor::{DType, Tensor},
};

use super::{
    MhaInput,
    multi_head::{combined_mask, merge_heads, split_heads},
};
#[cfg(feature = "cube")]
use crate::ops::Engine;
use crate::ops::{AttentionOptions, accept, try_differential_attention};

/// Differential attention, whose heads are each the difference of two attention maps over values
/// twice as wide as the queries:
///
/// ```text
/// lambda = exp(lambda_q1 . lambda_k1) - exp(lambda_q2 . lambda_k2) + lambda_init
/// head   = (1 - lambda_init) * norm((softmax(q1 k1^T) - lambda softmax(q2 k2^T)) v)
/// ```
///
/// with `norm(x) = x / sqrt(mean(x^2) + epsilon)` over each head.
///
/// The projections are packed as DiffLlama packs them: the first half of the query and key heads is
/// map 1's, the second half map 2's; value `j` is the two value heads `j` and `j + n_kv_heads` of
/// width `head_dim`, one after the other.
///
/// Paper: Ye et al. 2024, Differential Transformer, <https://arxiv.org/abs/2410.05258>.
///
/// ```
/// use attention_models::nn::{DifferentialAttentionConfig, MhaInput};
/// use burn::tensor::{Device, Distribution, Tensor};
///
/// let device = Device::flex();
/// let attention = DifferentialAttentionConfig::new(64, 2, 0).init(&device);
/// let tokens = Tensor::<3>::random([2, 10, 64], Distribution::Default, &device);
/// let context = attention.forward(MhaInput::self_attn(tokens));
/// assert_eq!(context.dims(), [2, 10, 64]);
/// ```
#[derive(Module, Debug)]
pub struct DifferentialAttention {
    /// `[d_model, 2 * n_heads * head_dim]`
    pub query: Linear,
    /// `[d_model, 2 * n_kv_heads * head_dim]`
    pub key: Linear,
    /// `[d_model, 2 * n_kv_heads * head_dim]`
    pub value: Linear,
    /// `[n_heads * 2 * head_dim, d_model]`
    pub output: Linear,
    /// `[head_dim]`
    pub lambda_q1: Param<Tensor<1>>,
    /// `[head_dim]`
    pub lambda_k1: Param<Tensor<1>>,
    /// `[head_dim]`
    pub lambda_q2: Param<Tensor<1>>,
    /// `[head_dim]`
    pub lambda_k2: Param<Tensor<1>>,
    /// Heads of the output.
    pub n_heads: usize,
    /// Key heads of each map, and value heads.
    pub n_kv_heads: usize,
    /// What lambda is about at the start.
    pub lambda_init: f64,
    /// Of the norm.
    pub epsilon: f64,
    /// Causality, scale and softcap.
    #[module(skip)]
    pub spec: AttentionSpec,
}

impl DifferentialAttention {
    /// The context of every query, `[batch, seq_q, d_model]`.
    ///
    /// Shapes of the input: see [`MhaInput`]; a bias has `n_heads` heads or 1, and code sees the heads
    /// as [`differential_attention`](crate::ops::differential_attention) says.
    ///
    /// # Panics
    /// With the message of the error that [`try_forward`](Self::try_forward) returns.
    pub fn forward(&self, input: MhaInput) -> Tensor<3> {
        accept(self.try_forward(input))
    }

    /// [`forward`](Self::forward), refusing bad input with a typed error.
    ///
    /// # Errors
    /// Those of [`try_differential_attention`], for the tensors of the input.
    pub fn try_forward(&self, input: MhaInput) -> Result<Tensor<3>, AttentionError> {
        self.try_forward_with(input, |query, key| (query, key))
    }

    /// [`try_forward`](Self::try_forward) with positions encoded into queries and keys: `encode`
    /// takes the projected queries of both maps `[batch, 2 * n_heads, seq_q, head_dim]` and keys
    /// `[batch, 2 * n_kv_heads, seq_kv, head_dim]` and returns them rotated.
    ///
    /// # Errors
    /// Those of [`try_forward`](Self::try_forward).
    pub fn try_forward_with(
        &self,
        input: MhaInput,
        encode: impl FnOnce(Tensor<4>, Tensor<4>) -> (Tensor<4>, Tensor<4>),
    ) -> Result<Tensor<3>, AttentionError> {
        let projections = [&self.query, &self.key, &self.value];
        input.check(projections, self.shapes(&input))?;
        let query = split_heads(self.query.forward(input.query), 2 * self.n_heads);
        let key = split_heads(self.key.forward(input.key), 2 * self.n_kv_heads);
        let value = paired(self.value.forward(input.value), self.n_kv_heads);
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
            weight_mod: None,
            #[cfg(feature = "cube")]
            engine: Engine::Auto,
        };
        let heads = try_differential_attention(
            halves(query, self.n_heads),
            halves(key, self.n_kv_heads),
            value,
            self.lambda(),
            options,
        )?;
        Ok(self.output.forward(merge_heads(self.norm(heads))))
    }

    /// `[1]`, in `f32`: the factor of the second map.
    pub fn lambda(&self) -> Tensor<1> {
        let exponential = |a: &Param<Tensor<1>>, b: &Param<Tensor<1>>| {
            let product = a.val().cast(DType::F32) * b.val().cast(DType::F32);
            product.sum().exp()
        };
        exponential(&self.lambda_q1, &self.lambda_k1)
            - exponential(&self.lambda_q2, &self.lambda_k2)
            + self.lambda_init
    }

    /// `(1 - lambda_init) * x / sqrt(mean(x^2) + epsilon)` over the last dimension of
    /// `[batch, n_heads, seq_q, 2 * head_dim]`, in `f32`.
    pub fn norm(&self, heads: Tensor<4>) -> Tensor<4> {
        let dtype = heads.dtype();
        let heads = heads.cast(DType::F32);
        let mean = (heads.clone() * heads.clone()).mean_dim(3);
        let length = mean.add_scalar(self.epsilon).sqrt();
        (heads / length)
            .mul_scalar(1.0 - self.lambda_init)
            .cast(dtype)
    }

    /// The shapes of map 1 after projection; the masks are checked as they are given.
    fn shapes(&self, input: &MhaInput) -> AttentionShapes {
        let [batch, seq_q, _] = input.query.dims();
        let [_, seq_kv, _] = input.key.dims();
        let width = |linear: &Linear, heads: usize| linear.weight.dims()[1] / heads;
        let kv_heads = self.n_kv_heads;
        AttentionShapes {
            query: [
                batch,
                self.n_heads,
                seq_q,
                width(&self.query, 2 * self.n_heads),
            ],
            key: [batch, kv_heads, seq_kv, width(&self.key, 2 * kv_heads)],
            value: [batch, kv_heads, seq_kv, width(&self.value, kv_heads)],
            mask: None,
            bias: input.bias.as_ref().map(|bias| bias.dims()),
        }
    }
}

/// The first and the second `heads` heads.
fn halves(tensor: Tensor<4>, heads: usize) -> [Tensor<4>; 2] {
    [0, heads].map(|first| tensor.clone().slice_dim(1, first..first + heads))
}

/// `[batch, seq, 2 * heads * dim]` as `[batch, heads, seq, 2 * dim]`: heads `j` and `j + heads` side
/// by side.
fn paired(tensor: Tensor<3>, heads: usize) -> Tensor<4> {
    Tensor::cat(halves(split_heads(tensor, 2 * heads), heads).to_vec(), 3)
}
