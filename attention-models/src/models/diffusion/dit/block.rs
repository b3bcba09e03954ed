use burn::module::Module;
use burn::nn::{Embedding, EmbeddingConfig, Linear, LinearConfig};
use burn::tensor::{Device, Int, Tensor, activation::silu};

use super::DiTConfig;
use crate::models::diffusion::Context;
use crate::models::diffusion::blocks::{
    Attention, AttentionConfig, FeedForward, Gelu, TimestepEmbedding,
};

/// Numbers that a time is projected to.
pub(super) const TIME_WIDTH: usize = 256;
/// Added to the variance before attention and before the output.
pub(super) const EPSILON: f64 = 1e-6;

/// One block.
#[derive(Module, Debug)]
pub struct DiTBlock {
    /// Shifts, scales and gates.
    pub norm1: AdaptiveNorm,
    /// Of the patches to each other.
    pub attn1: Attention,
    /// On each patch.
    pub ff: FeedForward<Gelu>,
}

/// From time and class to six numbers for each column of a token.
#[derive(Module, Debug)]
pub struct AdaptiveNorm {
    /// Of time and class.
    pub emb: Condition,
    /// `width -> 6 width`
    pub linear: Linear,
}

/// Time and class as one embedding.
#[derive(Module, Debug)]
pub struct Condition {
    /// Of the projected time.
    pub timestep_embedder: TimestepEmbedding,
    /// Of the class.
    pub class_embedder: ClassEmbedding,
}

/// A row for each class.
#[derive(Module, Debug)]
pub struct ClassEmbedding {
    /// `classes + 1` rows.
    pub embedding_table: Embedding,
}

impl DiTBlock {
    pub(super) fn new(config: &DiTConfig, device: &Device) -> Self {
        let width = config.width();
        let attention = AttentionConfig {
            width,
            context: width,
            heads: config.heads,
            bias: true,
            norm: None,
        };
        Self {
            norm1: AdaptiveNorm {
                emb: Condition {
                    timestep_embedder: TimestepEmbedding::new(TIME_WIDTH, width, device),
                    class_embedder: ClassEmbedding {
                        embedding_table: EmbeddingConfig::new(config.classes + 1, width)
                            .init(device),
                    },
                },
                linear: LinearConfig::new(width, 6 * width).init(device),
            },
            attn1: attention.init(device),
            ff: FeedForward::new(width, device),
        }
    }

    /// Tokens `[batch, patches, width]` of a grid `[rows, columns]`, with the embedded condition.
    pub(super) fn forward(
        &self,
        x: Tensor<3>,
        condition: Tensor<2>,
        norm_epsilon: f64,
        grid: [usize; 2],
        context: &mut Context,
    ) -> Tensor<3> {
        let modulation = self.norm1.linear.forward(silu(condition));
        let [shift, scale, gate, mlp_shift, mlp_scale, mlp_gate] = chunks(modulation);
        let tokens = modulate(normalise(x.clone(), EPSILON), shift, scale);
        let x = x + self.attn1.forward(tokens, None, grid, context) * gate;
        let tokens = modulate(normalise(x.clone(), norm_epsilon), mlp_shift, mlp_scale);
        x + self.ff.forward(tokens) * mlp_gate
    }
}

impl Condition {
    /// `[batch, projection]` and `[batch]` to `[batch, width]`.
    pub(super) fn forward(&self, time: Tensor<2>, classes: Tensor<1, Int>) -> Tensor<2> {
        let table = &self.class_embedder.embedding_table;
        let class = table.forward(classes.unsqueeze_dim::<2>(1));
        self.timestep_embedder.forward(time) + class.squeeze_dim::<2>(1)
    }
}

/// `[batch, N * width]` as `N` tensors `[batch, 1, width]`.
pub(super) fn chunks<const N: usize>(modulation: Tensor<2>) -> [Tensor<3>; N] {
    let width = modulation.dims()[1] / N;
    let modulation = modulation.unsqueeze_dim::<3>(1);
    std::array::from_fn(|part| {
        modulation
            .clone()
            .slice_dim(2, part * width..(part + 1) * width)
    })
}

pub(super) fn modulate(tokens: Tensor<3>, shift: Tensor<3>, scale: Tensor<3>) -> Tensor<3> {
    tokens * (scale + 1.0) + shift
}

/// A layer norm without weights.
pub(super) fn normalise(tokens: Tensor<3>, epsilon: f64) -> Tensor<3> {
    let centred = tokens.clone() - tokens.mean_dim(2);
    let variance = centred.clone().square().mean_dim(2);
    centred / (variance + epsilon).sqrt()
}
