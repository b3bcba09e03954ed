use burn::tensor::{Device, Tensor, TensorData};

use super::Alignment;
use crate::models::diffusion::{AttentionControl, Site, control::plain};

/// The most pixels at which self-attention is taken over: the layout, not the detail.
const SELF_PIXELS: usize = 32 * 32;

/// Editing a picture by its prompt (Hertz et al. 2022, <https://arxiv.org/abs/2208.01626>): two
/// pictures from the same noise, of which the second takes over the attention maps of the first, so
/// that it keeps its layout while other words fill it.
///
/// With `M` a map `softmax(q k^T)` and `A` an [`Alignment`] of the tokens, the second picture's
/// cross-attention has the map
///
/// `M' = (M_first A + M_second own) weights`
///
/// and, as a map only ever acts as `M' v`, its output is
///
/// `attention(q_first, k_first, A weights v) + attention(q_second, k_second, own weights v)`
///
/// with the second picture's values `v`: fused attention of the edited values, and no map is stored.
/// Weights after the softmax could also be given as a [`WeightMod`](crate::ops::WeightMod); on the
/// values they cost one product of `[tokens, head_dim]`, and `A` is no factor.
#[derive(Debug, Clone)]
pub struct PromptToPrompt {
    /// `A`, `[1, 1, tokens of the first, tokens of the second]`.
    shares: Tensor<4>,
    /// `[1, 1, tokens, 1]`, where any target token keeps its own map.
    own: Option<Tensor<4>>,
    /// One for each token.
    weights: Vec<f32>,
    cross_steps: f64,
    self_steps: f64,
    /// The part of the steps that was done before this one.
    progress: f64,
    device: Device,
}

impl PromptToPrompt {
    /// Takes over maps as `alignment` says, cross-attention's in the first 0.8 of the steps and
    /// self-attention's in the first 0.4.
    pub fn new(alignment: &Alignment, device: &Device) -> Self {
        let tokens = alignment.tokens;
        let shares = TensorData::new(alignment.shares.clone(), [1, 1, tokens, tokens]);
        let any = alignment.own.contains(&1.0);
        let own = TensorData::new(alignment.own.clone(), [1, 1, tokens, 1]);
        Self {
            shares: Tensor::from_data(shares, device),
            own: any.then(|| Tensor::from_data(own, device)),
            weights: vec![1.0; tokens],
            cross_steps: 0.8,
            self_steps: 0.4,
            progress: 0.0,
            device: device.clone(),
        }
    }

    /// Multiplies the second picture's map of some tokens: above 1 to see more of a word, below 1 to
    /// see less of it, below 0 for its opposite. Tokens beyond the prompt are left alone.
    pub fn with_weight(mut self, tokens: std::ops::Range<usize>, factor: f64) -> Self {
        for token in tokens {
            if let Some(weight) = self.weights.get_mut(token) {
                *weight = factor as f32;
            }
        }
        self
    }

    /// The parts of the steps, from 0 to 1, in which maps of cross- and of self-attention are taken
    /// over.
    pub fn with_steps(mut self, cross: f64, own: f64) -> Self {
        (self.cross_steps, self.self_steps) = (cross, own);
        self
    }

    /// The second picture's output, given its own inputs and the first's queries and keys.
    fn edited(&self, first: [Tensor<4>; 2], second: [Tensor<4>; 3]) -> Tensor<4> {
        let [query, key, value] = second;
        let tokens = self.weights.len();
        let weights = TensorData::new(self.weights.clone(), [1, 1, tokens, 1]);
        let value = value * Tensor::from_data(weights, &self.device);
        let [batch, heads, _, _] = value.dims();
        let shares = self.shares.clone().expand([batch, heads, tokens, tokens]);
        let [first_query, first_key] = first;
        let taken = plain(first_query, first_key, shares.matmul(value.clone()));
        match &self.own {
            Some(own) => taken + plain(query, key, value * own.clone()),
            None => taken,
        }
    }
}

impl AttentionControl for PromptToPrompt {
    fn begin_step(&mut self, step: usize, steps: usize) {
        self.progress = step as f64 / steps.max(1) as f64;
    }

    fn attend(
        &mut self,
        site: Site,
        query: Tensor<4>,
        key: Tensor<4>,
        value: Tensor<4>,
    ) -> Tensor<4> {
        let [batch, _, pixels, _] = query.dims();
        let until = if site.cross {
            self.cross_steps
        } else {
            self.self_steps
        };
        let fits = if site.cross {
            key.dims()[2] == self.weights.len()
        } else {
            pixels <= SELF_PIXELS
        };
        if batch < 2 || self.progress >= until || !fits {
            return plain(query, key, value);
        }
        // The two pictures with their text come last.
        let (first, second) = (batch - 2, batch - 1);
        let one = |tensor: &Tensor<4>, image: usize| tensor.clone().slice_dim(0, image..image + 1);
        let from_first = [one(&query, first), one(&key, first)];
        let value_of_second = one(&value, second);
        let edited = if site.cross {
            let own = [one(&query, second), one(&key, second), value_of_second];
            self.edited(from_first, own)
        } else {
            let [query, key] = from_first;
            plain(query, key, value_of_second)
        };
        let others = |tensor: Tensor<4>| tensor.slice_dim(0, ..second);
        let others = plain(others(query), others(key), others(value));
        Tensor::cat(vec![others, edited], 0)
    }

    fn images(&self) -> Option<usize> {
        Some(2)
    }
}
