use burn::tensor::{Device, Tensor, TensorData};
use serde::{Deserialize, Serialize};

/// Which two numbers of a head are turned together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Pairs {
    /// Neighbours: 0 with 1, 2 with 3 (RoFormer).
    Adjacent,
    /// Number `i` of the first half with number `i` of the second (ModernBERT).
    Halves,
}

/// Rotary positions (Su et al. 2021, <https://arxiv.org/abs/2104.09864>): pair `i` of a query or key at position `p`
/// is turned by the angle `p * theta^(-2i / head_dim)`.
#[derive(Debug, Clone)]
pub(super) struct Rotary {
    /// `[seq, head_dim]`
    cos: Tensor<2>,
    /// `[seq, head_dim]`
    sin: Tensor<2>,
    pairs: Pairs,
}

impl Rotary {
    /// The angles of the first `seq` positions.
    pub fn new(seq: usize, head_dim: usize, theta: f64, pairs: Pairs, device: &Device) -> Self {
        let pair = |number: usize| match pairs {
            Pairs::Adjacent => number / 2,
            Pairs::Halves => number % (head_dim / 2),
        };
        let angle = |position: usize, number: usize| {
            position as f64 * theta.powf(-2.0 * pair(number) as f64 / head_dim as f64)
        };
        let table = |of: fn(f64) -> f64| {
            let rows = (0..seq).flat_map(|position| {
                (0..head_dim).map(move |number| of(angle(position, number)) as f32)
            });
            let data = TensorData::new(rows.collect::<Vec<_>>(), [seq, head_dim]);
            Tensor::from_data(data, device)
        };
        Self {
            cos: table(f64::cos),
            sin: table(f64::sin),
            pairs,
        }
    }

    /// Turns `[batch, heads, seq, head_dim]`.
    pub fn turn(&self, x: Tensor<4>) -> Tensor<4> {
        let [batch, heads, seq, width] = x.dims();
        let half = width / 2;
        let quarter_turned = match self.pairs {
            Pairs::Halves => {
                let (first, second) = (
                    x.clone().slice_dim(3, 0..half),
                    x.clone().slice_dim(3, half..width),
                );
                Tensor::cat(vec![second.neg(), first], 3)
            }
            Pairs::Adjacent => {
                let pairs = x.clone().reshape([batch, heads, seq, half, 2]);
                let (first, second) = (pairs.clone().slice_dim(4, 0..1), pairs.slice_dim(4, 1..2));
                Tensor::cat(vec![second.neg(), first], 4).reshape([batch, heads, seq, width])
            }
        };
        x * self.cos.clone().unsqueeze() + quarter_turned * self.sin.clone().unsqueeze()
    }
}
