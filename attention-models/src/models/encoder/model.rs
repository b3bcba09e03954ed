use std::path::Path;

use attention_core::AttentionError;
use burn::module::Module;
use burn::nn::{LayerNorm, Linear, LinearConfig};
use burn::tensor::{Device, Int, Tensor};

use super::{
    EncoderConfig, EncoderInput, EncoderLayer, EncoderOutput, Pooling, TextEmbeddings,
    attending::Blind, embeddings::layer_norm, families, layer::Sight,
};
use crate::models::blocks::{AttentionInput, Positions};
use crate::models::checkpoint::{CheckpointError, Format, find};

/// A Transformer encoder of text; see the [module](super) for what it covers.
#[derive(Module, Debug)]
pub struct Encoder {
    /// From tokens to vectors.
    pub embeddings: TextEmbeddings,
    /// Those with weights of their own.
    pub layers: Vec<EncoderLayer>,
    /// After the last layer.
    pub norm: Option<LayerNorm>,
    /// From the first token to the pooled vector.
    pub pooler: Option<Linear>,
    /// From the pooled vector to the space that CLIP shares with images.
    pub projection: Option<Linear>,
    #[module(skip)]
    config: EncoderConfig,
    /// Of the folder that was read.
    #[module(skip)]
    pub(in crate::models) format: Option<Format>,
}

impl EncoderConfig {
    /// Makes a model with random weights.
    ///
    /// # Panics
    ///
    /// Panics with the message of [`try_init`](Self::try_init) where that refuses.
    pub fn init(&self, device: &Device) -> Encoder {
        self.try_init(device)
            .unwrap_or_else(|error| panic!("{error}"))
    }

    /// As [`init`](Self::init).
    ///
    /// # Errors
    ///
    /// Sizes that [`validate`](Self::validate) refuses.
    pub fn try_init(&self, device: &Device) -> Result<Encoder, AttentionError> {
        self.validate()?;
        let width = self.hidden_size;
        let pooler = LinearConfig::new(width, width);
        let layers = 0..self.distinct_layers();
        Ok(Encoder {
            embeddings: TextEmbeddings::new(self, device),
            layers: layers
                .map(|layer| EncoderLayer::new(self, layer, device))
                .collect::<Result<_, _>>()?,
            norm: self.final_norm.then(|| layer_norm(self, width, device)),
            pooler: (self.pooling == Pooling::FirstToken).then(|| pooler.init(device)),
            projection: self.projection.map(|outputs| {
                let projection = LinearConfig::new(width, outputs).with_bias(false);
                projection.init(device)
            }),
            config: self.clone(),
            format: None,
        })
    }
}

impl Encoder {
    /// Reads a model folder: `config.json` and `model.safetensors` of transformers' BERT, ALBERT, RoFormer,
    /// ModernBERT or CLIP text tower.
    ///
    /// # Errors
    ///
    /// [`CheckpointError`]: a file that is missing, truncated or of another kind, another architecture, or every
    /// tensor that does not fit.
    pub fn load(place: impl AsRef<Path>, device: &Device) -> Result<Self, CheckpointError> {
        families::load(&find(place)?, device)
    }

    /// Writes the model as a folder like the one that it was read from, which transformers can read.
    ///
    /// # Errors
    ///
    /// [`CheckpointError`]: a folder that cannot be written, or a model that was not read from one.
    pub fn save(&self, folder: impl AsRef<Path>) -> Result<(), CheckpointError> {
        Format::of_read(&self.format, folder.as_ref())?.save(self, folder.as_ref())
    }

    /// The sizes and variants of this model.
    pub fn config(&self) -> &EncoderConfig {
        &self.config
    }

    /// Runs the model.
    ///
    /// # Panics
    ///
    /// Panics with the message of [`try_forward`](Self::try_forward) where that refuses.
    pub fn forward(&self, input: EncoderInput) -> EncoderOutput {
        self.try_forward(input)
            .unwrap_or_else(|error| panic!("{error}"))
    }

    /// As [`forward`](Self::forward).
    ///
    /// # Errors
    ///
    /// [`AttentionError::Shape`] for no tokens, more than the model has positions, or padding and segments of
    /// another shape; [`AttentionError::Value`] for a token or segment that the model does not know.
    pub fn try_forward(&self, input: EncoderInput) -> Result<EncoderOutput, AttentionError> {
        let mut tokens = self.embed(&input)?;
        let sight = self.sight(&input);
        for index in 0..self.config.layers {
            tokens = self.layer(index).forward(tokens, &sight)?;
        }
        Ok(self.finish(tokens, &input))
    }

    /// The input of every layer and the output of the last, before the last norm: `layers + 1` tensors
    /// `[batch, seq, hidden_size]`.
    ///
    /// # Errors
    ///
    /// As [`try_forward`](Self::try_forward).
    pub fn hidden_states(&self, input: &EncoderInput) -> Result<Vec<Tensor<3>>, AttentionError> {
        let mut states = vec![self.embed(input)?];
        let sight = self.sight(input);
        for index in 0..self.config.layers {
            states.push(self.layer(index).forward(states[index].clone(), &sight)?);
        }
        Ok(states)
    }

    /// Who attends to whom in one layer, `[batch, heads, seq, seq]`, given the layer's input. It is the whole
    /// matrix, which the model itself never holds: to look at.
    ///
    /// # Errors
    ///
    /// [`AttentionError::Value`] for a layer that the model does not have.
    pub fn attention_probabilities(
        &self,
        layer: usize,
        tokens: Tensor<3>,
        input: &EncoderInput,
    ) -> Result<Tensor<4>, AttentionError> {
        if layer >= self.config.layers {
            return Err(AttentionError::Value {
                argument: "layer",
                given: layer.to_string(),
                accepted: format!("0 to {}", self.config.layers - 1),
            });
        }
        self.layer(layer).probabilities(tokens, &self.sight(input))
    }

    /// Norm, pooling and projection of the output of the last layer.
    pub fn finish(&self, tokens: Tensor<3>, input: &EncoderInput) -> EncoderOutput {
        let last_hidden_state = match &self.norm {
            Some(norm) => norm.forward(tokens),
            None => tokens,
        };
        let pooled = match self.config.pooling {
            Pooling::None => None,
            Pooling::FirstToken => {
                let first = last_hidden_state.clone().slice_dim(1, 0..1);
                let first = first.squeeze_dim::<2>(1);
                self.pooler
                    .as_ref()
                    .map(|pooler| pooler.forward(first).tanh())
            }
            Pooling::EndOfText { token } => {
                Some(at_end_of_text(&last_hidden_state, &input.tokens, token))
            }
        };
        let projection = self.projection.as_ref().zip(pooled.clone());
        EncoderOutput {
            projected: projection.map(|(projection, pooled)| projection.forward(pooled)),
            pooled,
            last_hidden_state,
            padding: input.padding.clone(),
        }
    }

    /// The input of the first layer.
    fn embed(&self, input: &EncoderInput) -> Result<Tensor<3>, AttentionError> {
        let config = &self.config;
        input.check(config.vocabulary, config.segments, config.max_positions)?;
        Ok(self.embeddings.forward(input))
    }

    /// The weights of the `index`-th layer that runs.
    fn layer(&self, index: usize) -> &EncoderLayer {
        &self.layers[index * self.layers.len() / self.config.layers]
    }

    /// What the tokens see of each other.
    fn sight(&self, input: &EncoderInput) -> Sight {
        let attentions = self.layers.iter().map(|layer| &layer.attention);
        let positions = Positions::range(0..input.tokens.dims()[1]);
        let mut sight = AttentionInput::new(attentions, &positions, &input.tokens.device());
        if let Some(padding) = &input.padding {
            sight = sight.with_padding(padding.clone());
        }
        Sight {
            input: sight,
            blind: Blind::by(input.padding.as_ref()),
        }
    }
}

/// `[batch, seq, width]` to `[batch, width]`: the token at the first end-of-text token; the first token, where there
/// is none.
fn at_end_of_text(
    states: &Tensor<3>,
    tokens: &Tensor<2, Int>,
    end_of_text: Option<usize>,
) -> Tensor<2> {
    let [batch, seq, width] = states.dims();
    let is_end = match end_of_text {
        Some(token) => tokens.clone().equal_elem(token as i64),
        None => tokens
            .clone()
            .equal(tokens.clone().max_dim(1).expand([batch, seq])),
    };
    let positions = Tensor::<1, Int>::arange(0..seq as i64, &tokens.device());
    let positions = positions.unsqueeze::<2>().expand([batch, seq]);
    let first = positions
        .mask_fill(is_end.bool_not(), seq as i64)
        .min_dim(1);
    let absent = first.clone().equal_elem(seq as i64);
    let first = first.mask_fill(absent, 0);
    let index = first.reshape([batch, 1, 1]).expand([batch, 1, width]);
    states.clone().gather(1, index).squeeze_dim::<2>(1)
}
