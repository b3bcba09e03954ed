use attention_core::AttentionError;
use burn::module::Module;
use burn::nn::{Embedding, EmbeddingConfig};
use burn::tensor::{Bool, Device, Tensor};

use super::{
    RelativeBias, Seq2SeqConfig, Seq2SeqLayer, SequencePositions, StackConfig,
    layer::{LayerInput, SourceKeys},
    positions::sinusoids,
};
use crate::models::blocks::Norm;
use crate::models::cache::KvCache;

/// An encoder or a decoder.
#[derive(Module, Debug)]
pub struct Stack {
    /// `[first + max_positions, hidden_size]`
    pub positions: Option<Embedding>,
    /// Of the embeddings.
    pub embedding_norm: Option<Norm>,
    /// T5's relative positions.
    pub relative: Option<RelativeBias>,
    /// The layers.
    pub layers: Vec<Seq2SeqLayer>,
    /// After the last layer.
    pub norm: Option<Norm>,
    #[module(skip)]
    kind: SequencePositions,
}

impl Stack {
    pub(super) fn new(
        config: &Seq2SeqConfig,
        stack: &StackConfig,
        decodes: bool,
        device: &Device,
    ) -> Result<Self, AttentionError> {
        let positions = match (config.positions, stack.max_positions) {
            (SequencePositions::Learned { first }, Some(count)) => {
                Some(EmbeddingConfig::new(first + count, config.hidden_size).init(device))
            }
            _ => None,
        };
        let relative = match config.positions {
            SequencePositions::Relative {
                buckets,
                max_distance,
            } => {
                let shape = [buckets, stack.heads];
                Some(RelativeBias::new(shape, max_distance, !decodes, device))
            }
            _ => None,
        };
        Ok(Self {
            positions,
            embedding_norm: config.embedding_norm.then(|| config.norm(device)),
            relative,
            layers: (0..stack.layers)
                .map(|_| Seq2SeqLayer::new(config, stack, decodes, device))
                .collect::<Result<_, _>>()?,
            norm: config.final_norm.then(|| config.norm(device)),
            kind: config.positions,
        })
    }

    /// The input of the first layer: `[batch, seq, hidden_size]` of which the first token has position `start`.
    pub(super) fn embed(&self, tokens: Tensor<3>, start: usize) -> Tensor<3> {
        let [_, seq, width] = tokens.dims();
        let tokens = match (self.kind, &self.positions) {
            (SequencePositions::Sinusoidal { interleaved }, _) => {
                let table = sinusoids(start, seq, width, interleaved, &tokens.device());
                let table = table.cast(tokens.dtype());
                tokens + table.unsqueeze::<3>()
            }
            (SequencePositions::Learned { first }, Some(table)) => {
                let rows = first + start..first + start + seq;
                tokens + table.weight.val().slice_dim(0, rows).unsqueeze::<3>()
            }
            _ => tokens,
        };
        match &self.embedding_norm {
            Some(norm) => norm.forward(tokens),
            None => tokens,
        }
    }

    /// What all layers are given; padding `[batch, seq]` is of the tokens themselves.
    pub(super) fn input(&self, padding: Option<&Tensor<2, Bool>>) -> LayerInput {
        LayerInput {
            padding: padding.map(for_all_queries),
            relative: self.relative.as_ref().map(RelativeBias::prepared),
        }
    }

    /// The input of each layer and the output of the last, through the last norm: `layers + 1` tensors.
    pub(super) fn states(
        &self,
        embedded: Tensor<3>,
        input: &LayerInput,
        source: &[SourceKeys],
    ) -> Result<Vec<Tensor<3>>, AttentionError> {
        let mut states = vec![embedded];
        for (index, layer) in self.layers.iter().enumerate() {
            let tokens = states[index].clone();
            states.push(layer.forward(tokens, input, source.get(index), None)?);
        }
        let last = states.pop().map(|last| self.normalised(last));
        states.extend(last);
        Ok(states)
    }

    /// The output of the last layer, through the last norm.
    pub(super) fn forward(
        &self,
        mut tokens: Tensor<3>,
        input: &LayerInput,
        source: &[SourceKeys],
        mut cache: Option<&mut KvCache>,
    ) -> Result<Tensor<3>, AttentionError> {
        for (index, layer) in self.layers.iter().enumerate() {
            let cache = cache.as_mut().map(|cache| &mut cache.layers()[index]);
            tokens = layer.forward(tokens, input, source.get(index), cache)?;
        }
        Ok(self.normalised(tokens))
    }

    fn normalised(&self, tokens: Tensor<3>) -> Tensor<3> {
        match &self.norm {
            Some(norm) => norm.forward(tokens),
            None => tokens,
        }
    }
}

/// `[batch, keys]` as attention takes it.
pub(super) fn for_all_queries(padding: &Tensor<2, Bool>) -> Tensor<4, Bool> {
    let [batch, keys] = padding.dims();
    padding.clone().reshape([batch, 1, 1, keys])
}
