//! DeBERTa's attention (He et al. 2020, <https://arxiv.org/abs/2006.03654>).

use attention_core::AttentionSpec;
use burn::module::Module;
use burn::nn::{Linear, LinearConfig};
use burn::tensor::{Bool, Device, Int, Tensor, TensorData};

use super::DebertaConfig;
#[cfg(feature = "cube")]
use super::by_distance::by_distance;
use crate::models::blocks::Projected;
use crate::nn::{MultiHeadAttention, MultiHeadAttentionConfig, split_heads};
use crate::ops::AttentionOptions;
#[cfg(feature = "cube")]
use crate::ops::ScoreMod;

/// Attention in which content and position are two vectors: the score of query `i` and key `j` is
/// `(q_i k_j + q_i pk_d + pq_d k_j) / sqrt(3 head_dim)`, where `pk` and `pq` are projections of what is learned for
/// the distance `d = i - j`.
///
/// # What it costs
///
/// The two terms of positions are products with the `2 * span` learned distances, `[batch, heads, seq, 2 * span]`
/// each, and a score modification reads them by distance, so nothing of `[seq, seq]` is stored. In training, where
/// they need gradients, their sum is gathered to a bias `[batch, heads, seq, seq]`, with an index of that shape.
#[derive(Module, Debug)]
pub struct DisentangledAttention {
    /// Of the content.
    pub content: MultiHeadAttention,
    /// From learned distances to keys; where absent, the content's.
    pub position_key: Option<Linear>,
    /// From learned distances to queries; where absent, the content's.
    pub position_query: Option<Linear>,
    span: usize,
    buckets: usize,
    max_distance: usize,
}

impl DisentangledAttention {
    pub(super) fn new(config: &DebertaConfig, device: &Device) -> Self {
        let width = config.hidden_size;
        let scale = ((width / config.heads) as f64 * 3.0).powf(-0.5);
        let own = || {
            let projection = LinearConfig::new(width, width);
            (!config.shared_projections).then(|| projection.init(device))
        };
        Self {
            content: MultiHeadAttentionConfig::new(width, config.heads)
                .with_spec(AttentionSpec::default().with_scale(scale))
                .init(device),
            position_key: own(),
            position_query: own(),
            span: config.span(),
            buckets: config.position_buckets,
            max_distance: config.max_distance,
        }
    }

    /// The call on `[batch, seq, hidden_size]`, given what is learned for each distance, `[2 * span, hidden_size]`,
    /// and which tokens are padding.
    pub(super) fn project(
        &self,
        tokens: Tensor<3>,
        distances: Tensor<2>,
        padding: Option<&Tensor<2, Bool>>,
    ) -> Projected {
        let heads = self.content.n_heads;
        let split = |linear: &Linear| split_heads(linear.forward(tokens.clone()), heads);
        let (query, key) = (split(&self.content.query), split(&self.content.key));
        let mut options = AttentionOptions::from(self.content.spec);
        options.mask = padding.map(|padding| {
            let [batch, seq] = padding.dims();
            padding.clone().reshape([batch, 1, 1, seq])
        });
        let [by_query, by_key] = self.position_terms(&query, &key, distances);
        Projected {
            options: self.with_positions(options, by_query, by_key),
            value: split(&self.content.value),
            query,
            key,
        }
    }

    /// Adds the terms of positions to the scores.
    fn with_positions(
        &self,
        options: AttentionOptions,
        by_query: Tensor<4>,
        by_key: Tensor<4>,
    ) -> AttentionOptions {
        #[cfg(feature = "cube")]
        if !by_query.device().is_autodiff() {
            let [_, heads, seq, slots] = by_query.dims();
            let of_distance = self.slots(seq);
            let of_distance = Tensor::from_data(of_distance.as_slice(), &by_query.device());
            let terms = ScoreMod::additive(by_distance::expand)
                .with_floats(flat(by_query))
                .with_floats(flat(by_key))
                .with_integers(of_distance)
                .with_count(heads as u32)
                .with_count(seq as u32)
                .with_count(slots as u32);
            return options.with_score_mod(terms);
        }
        options.with_bias(self.bias(by_query, by_key))
    }

    /// `q_i pk_d` and `pq_d k_j`, scaled, for all distances: `[batch, heads, seq, 2 * span]` each.
    fn position_terms(
        &self,
        query: &Tensor<4>,
        key: &Tensor<4>,
        distances: Tensor<2>,
    ) -> [Tensor<4>; 2] {
        let heads = self.content.n_heads;
        let project = |linear: &Linear| {
            split_heads(linear.forward(distances.clone().unsqueeze::<3>()), heads).swap_dims(2, 3)
        };
        let to_key = self.position_key.as_ref().unwrap_or(&self.content.key);
        let to_query = self.position_query.as_ref().unwrap_or(&self.content.query);
        let scale = self.content.spec.scale_for(query.dims()[3]);
        [
            query.clone().mul_scalar(scale).matmul(project(to_key)),
            key.clone().mul_scalar(scale).matmul(project(to_query)),
        ]
    }

    /// `[batch, heads, seq, seq]`
    fn bias(&self, by_query: Tensor<4>, by_key: Tensor<4>) -> Tensor<4> {
        let [batch, heads, seq, _] = by_query.dims();
        let slots = self.slots(seq);
        let of_pair = |query: usize, key: usize| slots[query + seq - 1 - key];
        let index = |of: &dyn Fn(usize, usize) -> i32| {
            let pairs = (0..seq * seq).map(|pair| of(pair / seq, pair % seq));
            let data = TensorData::new(pairs.collect::<Vec<_>>(), [1, 1, seq, seq]);
            let index = Tensor::<4, Int>::from_data(data, &by_query.device());
            index.expand([batch, heads, seq, seq])
        };
        let of_query = index(&of_pair);
        let of_key = index(&|key, query| of_pair(query, key));
        by_query.gather(3, of_query) + by_key.gather(3, of_key).swap_dims(2, 3)
    }

    /// Which learned vector belongs to each distance from `1 - seq` to `seq - 1`.
    fn slots(&self, seq: usize) -> Vec<i32> {
        let last = 2 * self.span as i64 - 1;
        let seq = seq as i64;
        (1 - seq..seq)
            .map(|distance| {
                let bucket = signed_bucket(distance, self.buckets, self.max_distance);
                (bucket + self.span as i64).clamp(0, last) as i32
            })
            .collect()
    }
}

#[cfg(feature = "cube")]
fn flat(tensor: Tensor<4>) -> Tensor<1> {
    let elements: usize = tensor.dims().iter().product();
    tensor.reshape([elements])
}

/// Small distances have a bucket each, larger ones share them logarithmically; without buckets, each has its own.
fn signed_bucket(distance: i64, buckets: usize, max_distance: usize) -> i64 {
    let middle = (buckets / 2) as i64;
    if buckets == 0 || distance.abs() <= middle {
        return distance;
    }
    // In f32, as the checkpoints were trained.
    let octaves = (distance.abs() as f32 / middle as f32).ln();
    let range = ((max_distance as i64 - 1) as f32 / middle as f32).ln();
    let shared = (octaves / range * (middle - 1) as f32).ceil() as i64;
    (shared + middle) * distance.signum()
}

#[cfg(test)]
mod tests {
    use super::signed_bucket;

    #[test]
    fn far_distances_share_buckets_and_near_ones_do_not() {
        let bucket = |distance| signed_bucket(distance, 8, 80);
        assert_eq!([0, 1, 4, -4].map(bucket), [0, 1, 4, -4]);
        assert_eq!(bucket(5), bucket(10));
        assert_eq!(bucket(79), 7);
        assert_eq!(bucket(-79), -7);
        assert_eq!(signed_bucket(300, 0, 80), 300);
    }
}
