use burn::module::Module;
use burn::nn::{Embedding, EmbeddingConfig, LayerNorm, LayerNormConfig, Linear, LinearConfig};
use burn::tensor::{Device, Int, Tensor};

use super::{EncoderConfig, EncoderInput, Positions};

/// From tokens to vectors: the sum of what is learned for the word, its position and its segment.
#[derive(Module, Debug)]
pub struct TextEmbeddings {
    /// `[vocabulary, embedding_size]`
    pub word: Embedding,
    /// `[max_positions, embedding_size]`
    pub positions: Option<Embedding>,
    /// `[segments, embedding_size]`
    pub segments: Option<Embedding>,
    /// Of the sum.
    pub norm: Option<LayerNorm>,
    /// `embedding_size -> hidden_size`
    pub projection: Option<Linear>,
}

impl TextEmbeddings {
    pub(super) fn new(config: &EncoderConfig, device: &Device) -> Self {
        let width = config.embedding_size.unwrap_or(config.hidden_size);
        let table = |rows| EmbeddingConfig::new(rows, width).init(device);
        let learned = config.positions == Positions::Learned;
        Self {
            word: table(config.vocabulary),
            positions: learned.then(|| table(config.max_positions)),
            segments: (config.segments > 0).then(|| table(config.segments)),
            norm: config
                .embedding_norm
                .then(|| layer_norm(config, width, device)),
            projection: config
                .embedding_size
                .map(|width| LinearConfig::new(width, config.hidden_size).init(device)),
        }
    }

    /// `[batch, seq]` checked tokens to `[batch, seq, hidden_size]`.
    pub(super) fn forward(&self, input: &EncoderInput) -> Tensor<3> {
        let [batch, seq] = input.tokens.dims();
        let device = input.tokens.device();
        let mut tokens = self.word.forward(input.tokens.clone());
        if let Some(segments) = &self.segments {
            let zeros = || Tensor::<2, Int>::zeros([batch, seq], &device);
            let segment = input.segments.clone().unwrap_or_else(zeros);
            tokens = tokens + segments.forward(segment);
        }
        if let Some(positions) = &self.positions {
            let learned = positions.weight.val().slice_dim(0, 0..seq);
            tokens = tokens + learned.unsqueeze::<3>();
        }
        if let Some(norm) = &self.norm {
            tokens = norm.forward(tokens);
        }
        match &self.projection {
            Some(projection) => projection.forward(tokens),
            None => tokens,
        }
    }
}

/// A norm as the configuration has it.
pub(super) fn layer_norm(config: &EncoderConfig, width: usize, device: &Device) -> LayerNorm {
    LayerNormConfig::new(width)
        .with_epsilon(config.norm_epsilon)
        .with_bias(config.norm_bias)
        .init(device)
}
