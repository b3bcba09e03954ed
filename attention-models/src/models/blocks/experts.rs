use attention_core::AttentionError;
use burn::config::Config;
use burn::module::Module;
use burn::nn::{Linear, LinearConfig};
use burn::tensor::{Device, IndexingUpdateOp, Int, Tensor, TensorData, activation::softmax};

use super::{GatedMlp, GatedMlpConfig};

/// Sizes of a [`MixtureOfExperts`].
#[derive(Config, Debug, PartialEq)]
pub struct MixtureOfExpertsConfig {
    /// The size of each expert.
    pub expert: GatedMlpConfig,
    /// How many experts there are.
    pub experts: usize,
    /// How many of them a token goes through.
    pub experts_per_token: usize,
    /// Whether the router has a bias.
    #[config(default = false)]
    pub router_bias: bool,
}

impl MixtureOfExpertsConfig {
    /// Refuses numbers of experts from which no mixture can be made.
    ///
    /// # Errors
    /// [`AttentionError::Value`] unless `experts_per_token` is from 1 to `experts`.
    pub fn validate(&self) -> Result<(), AttentionError> {
        if (1..=self.experts).contains(&self.experts_per_token) {
            return Ok(());
        }
        Err(AttentionError::Value {
            argument: "experts_per_token",
            given: self.experts_per_token.to_string(),
            accepted: format!("from 1 to the number of experts, {}", self.experts),
        })
    }

    /// A mixture with random weights.
    pub fn init(&self, device: &Device) -> MixtureOfExperts {
        let router = LinearConfig::new(self.expert.hidden_size, self.experts);
        MixtureOfExperts {
            router: router.with_bias(self.router_bias).init(device),
            experts: (0..self.experts)
                .map(|_| self.expert.init(device))
                .collect(),
            experts_per_token: self.experts_per_token,
        }
    }
}

/// Each token goes through the experts that the router scores highest, and the results are added
/// by the softmax of those scores. An expert computes only for tokens that are routed to it.
///
/// - Shazeer et al. 2017, <https://arxiv.org/abs/1701.06538>
/// - Jiang et al. 2024, Mixtral, <https://arxiv.org/abs/2401.04088>
#[derive(Module, Debug)]
pub struct MixtureOfExperts {
    /// `hidden_size -> experts`
    pub router: Linear,
    /// The experts.
    pub experts: Vec<GatedMlp>,
    experts_per_token: usize,
}

impl MixtureOfExperts {
    /// `[batch, seq, hidden_size]` to the same.
    pub fn forward(&self, tokens: Tensor<3>) -> Tensor<3> {
        let shape = tokens.dims();
        let tokens = tokens.reshape([shape[0] * shape[1], shape[2]]);
        let scores = self.router.forward(tokens.clone());
        let (scores, chosen) = scores.topk_with_indices(self.experts_per_token, 1);
        let weights = softmax(scores, 1);

        let chosen = chosen.into_data();
        let chosen: Vec<usize> = chosen.iter::<i64>().map(|expert| expert as usize).collect();
        let mut sum = tokens.zeros_like();
        for (index, expert) in self.experts.iter().enumerate() {
            // Places in the list `[tokens, experts_per_token]` of choices.
            let places = chosen.iter().enumerate();
            let places = places.filter(|(_, chosen)| **chosen == index);
            let places: Vec<_> = places.map(|(place, _)| place).collect();
            if places.is_empty() {
                continue;
            }
            let rows = places.iter().map(|place| place / self.experts_per_token);
            let rows = indices(rows, &tokens.device());
            let weight = weights.clone().flatten::<1>(0, 1);
            let weight = weight.select(0, indices(places.iter().copied(), &tokens.device()));
            let out = expert.forward(tokens.clone().select(0, rows.clone()));
            let out = out * weight.unsqueeze_dim(1);
            sum = sum.select_assign(0, rows, out, IndexingUpdateOp::Add);
        }
        sum.reshape(shape)
    }
}

fn indices(values: impl Iterator<Item = usize>, device: &Device) -> Tensor<1, Int> {
    let values: Vec<i64> = values.map(|value| value as i64).collect();
    let count = values.len();
    Tensor::from_data(TensorData::new(values, [count]), device)
}
