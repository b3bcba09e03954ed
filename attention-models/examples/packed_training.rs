//! Training on sequences of different lengths, packed one after the other without padding.
//!
//! `cargo run --workspace --example packed_training`
//!
//! A single layer learns to repeat the token before: its attention has to look one token back, and
//! never into the sequence before.

use attention_models::ops::{
    AttentionOptions, Captured, CausalAlignment, Lanes, PackedSequences, Place, ScoreMod,
    attention_packed,
};
use burn::{
    module::{Module, Param},
    nn::{Embedding, EmbeddingConfig, Linear, LinearConfig, loss::CrossEntropyLossConfig},
    optim::{AdamWConfig, GradientsParams},
    tensor::{Device, Distribution, Int, Tensor},
};
use cubecl::prelude::*;

const WORDS: usize = 16;
const WIDTH: usize = 32;
const HEADS: usize = 4;
/// Distances that heads tell apart.
const NEAR: usize = 4;
const STEPS: usize = 60;

/// Attention with a learned term for each head and distance.
#[derive(Module, Debug)]
struct Model {
    embedding: Embedding,
    packed_projection: Linear,
    near: Param<Tensor<1>>,
    output: Linear,
}

#[cube]
fn distance(at: &Place, _captured: &Captured) -> Vector<u32, Lanes> {
    max(at.query, at.key) - min(at.query, at.key)
}

impl Model {
    fn new(device: &Device) -> Self {
        Self {
            embedding: EmbeddingConfig::new(WORDS, WIDTH).init(device),
            packed_projection: LinearConfig::new(WIDTH, 3 * WIDTH).init(device),
            near: Param::from_tensor(Tensor::zeros([HEADS * NEAR], device)),
            output: LinearConfig::new(WIDTH, WORDS).init(device),
        }
    }

    /// The scores of the words, `[tokens, WORDS]`, for `[tokens]`.
    fn forward(&self, tokens: Tensor<1, Int>, sequences: &PackedSequences) -> Tensor<2> {
        let [count] = tokens.dims();
        let embedded = self.embedding.forward(tokens.unsqueeze::<2>());
        let projected = self.packed_projection.forward(embedded);
        let projected = projected.reshape([count, 3, HEADS, WIDTH / HEADS]);
        let part = |n: usize| {
            let part = projected.clone().slice_dim(1, n..n + 1);
            part.squeeze_dim::<3>(1)
        };
        let near = ScoreMod::lookup(self.near.val(), NEAR as u32, distance::expand);
        let options = AttentionOptions::default().with_score_mod(near);
        let out = attention_packed(part(0), part(1), part(2), sequences, options);
        self.output.forward(out.reshape([count, WIDTH]))
    }
}

fn main() {
    let device = Device::flex().autodiff();
    device.seed(7);
    let lengths = [5, 31, 2, 64, 17, 9];
    let ends: Vec<usize> = std::iter::once(0)
        .chain(lengths.iter().scan(0, |end, length| {
            *end += length;
            Some(*end)
        }))
        .collect();
    let causal = Some(CausalAlignment::BottomRight);
    let sequences = PackedSequences::new(&ends, &ends, causal, &device);
    let count = sequences.total_q();

    let mut model = Model::new(&device);
    let mut optimizer = AdamWConfig::new().init();
    let loss = CrossEntropyLossConfig::new().init(&device);
    let mut losses = Vec::new();
    for step in 0..STEPS {
        let words = Distribution::Uniform(0.0, WORDS as f64);
        let tokens = Tensor::<1, Int>::random([count], words, &device);
        let before = previous(&tokens, &ends, &device);
        let scores = model.forward(tokens, &sequences);
        let value = loss.forward(scores, before);
        losses.push(value.clone().into_scalar::<f32>());
        let gradients = GradientsParams::from_grads(value.backward(), &model);
        model = optimizer.step(0.02, model, gradients);
        if step % 10 == 0 || step + 1 == STEPS {
            println!("step {step:2}: loss {:.3}", losses[step]);
        }
    }
    assert!(
        losses[STEPS - 1] < 0.5 * losses[0],
        "the loss has to fall: {losses:?}"
    );
}

/// The token before each; the first of a sequence repeats itself.
fn previous(tokens: &Tensor<1, Int>, ends: &[usize], device: &Device) -> Tensor<1, Int> {
    let count = *ends.last().expect("there is a sequence");
    let before = |token: usize| {
        if ends.contains(&token) {
            token
        } else {
            token - 1
        }
    };
    let indices: Vec<i32> = (0..count).map(|token| before(token) as i32).collect();
    let indices = Tensor::<1, Int>::from_data(indices.as_slice(), device);
    tokens.clone().select(0, indices)
}
