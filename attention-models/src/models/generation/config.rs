use attention_core::AttentionError;
use burn::config::Config;
use serde::{Deserialize, Serialize};

/// How a token is chosen from the logits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sampling {
    /// The likeliest.
    #[default]
    Greedy,
    /// At random, by probabilities that the other fields change in their order.
    Random {
        /// Logits are divided by it: below 1, likely tokens become likelier.
        temperature: f64,
        /// Only so many of the likeliest tokens; all with 0.
        top_k: usize,
        /// Only the likeliest tokens that together have this probability (Holtzman et al. 2019,
        /// <https://arxiv.org/abs/1904.09751>); all with 1.
        top_p: f64,
        /// Only tokens at least this likely as a part of the likeliest one's probability (Nguyen et
        /// al. 2024, <https://arxiv.org/abs/2407.01082>); all with 0.
        min_p: f64,
        /// The same seed gives the same tokens.
        seed: u64,
    },
}

/// What is generated, and when it ends. The names in transformers' `generation_config.json` stand in
/// brackets.
#[derive(Config, Debug, PartialEq)]
pub struct GenerationConfig {
    /// How many tokens at most (`max_new_tokens`).
    pub max_new_tokens: usize,
    /// How many tokens at least (`min_new_tokens`).
    #[config(default = 0)]
    pub min_new_tokens: usize,
    /// The tokens that end a sequence (`eos_token_id`).
    #[config(default = "Vec::new()")]
    pub end_tokens: Vec<i64>,
    /// What stands behind the end of a sequence (`pad_token_id`).
    #[config(default = 0)]
    pub pad_token: i64,
    /// How a token is chosen.
    #[config(default = "Sampling::Greedy")]
    pub sampling: Sampling,
    /// Tokens that are in the sequence become less likely by this factor on their logits (Keskar et al.
    /// 2019, <https://arxiv.org/abs/1909.05858>; `repetition_penalty`).
    #[config(default = 1.0)]
    pub repetition_penalty: f64,
    /// Tokens that are never chosen (`bad_words_ids` of one token, `suppress_tokens`).
    #[config(default = "Vec::new()")]
    pub suppressed: Vec<i64>,
    /// The first token (`forced_bos_token_id`).
    #[config(default = "None")]
    pub forced_first: Option<i64>,
    /// The last token, where `max_new_tokens` are reached (`forced_eos_token_id`).
    #[config(default = "None")]
    pub forced_last: Option<i64>,
}

impl GenerationConfig {
    /// Refuses numbers outside of their domain.
    ///
    /// # Errors
    /// [`AttentionError::Value`] naming the field.
    pub fn validate(&self) -> Result<(), AttentionError> {
        let refuse = |argument, given: f64, accepted: &str| {
            Err(AttentionError::Value {
                argument,
                given: given.to_string(),
                accepted: accepted.into(),
            })
        };
        let positive = |value: f64| value.is_finite() && value > 0.0;
        if !positive(self.repetition_penalty) {
            let accepted = "a positive number";
            return refuse("repetition_penalty", self.repetition_penalty, accepted);
        }
        let Sampling::Random {
            temperature,
            top_p,
            min_p,
            ..
        } = self.sampling
        else {
            return Ok(());
        };
        if !positive(temperature) {
            return refuse("temperature", temperature, "a positive number; or greedy");
        }
        if !(top_p > 0.0 && top_p <= 1.0) {
            return refuse("top_p", top_p, "more than 0 and at most 1");
        }
        if !(0.0..=1.0).contains(&min_p) {
            return refuse("min_p", min_p, "from 0 to 1");
        }
        Ok(())
    }
}
